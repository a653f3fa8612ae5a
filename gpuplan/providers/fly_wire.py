"""What Fly.io answers about machines, volumes and tokens, in our words. Pure; `fly` makes the calls."""

from collections.abc import Mapping

from pydantic import JsonValue as Json

from gpuplan.core.desired import Kind
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.values import Attrs, JsonValue
from gpuplan.net.marks import from_name, from_text
from gpuplan.net.payload import Payload
from gpuplan.providers.fly_config import MARK, Config, host_of
from gpuplan.providers.fly_guests import VOLUME_GB_HOUR

STATES: Mapping[str, Status] = {
    "created": Status.PENDING,
    "creating": Status.STARTING,
    "starting": Status.STARTING,
    "updating": Status.STARTING,
    "replacing": Status.STARTING,
    "restarting": Status.STARTING,
    "started": Status.RUNNING,
    "stopping": Status.STOPPING,
    "suspending": Status.STOPPING,
    "stopped": Status.STOPPED,
    "suspended": Status.STOPPED,
    "destroying": Status.TERMINATING,
    "destroyed": Status.TERMINATED,
    "migrated": Status.TERMINATED,
    "replaced": Status.TERMINATED,
    "failed": Status.FAILED,
    "launch_failed": Status.FAILED,
}
VOLUME_STATES: Mapping[str, Status] = {
    "created": Status.RUNNING,
    "creating": Status.STARTING,
    "restoring": Status.STARTING,
    "hydrating": Status.STARTING,
    "scheduling_destroy": Status.TERMINATING,
    "fork_cleanup": Status.TERMINATING,
    "waiting_for_detach": Status.TERMINATING,
    "pending_destroy": Status.TERMINATING,
    "destroying": Status.TERMINATING,
    "destroyed": Status.TERMINATED,
}


class Check(Payload):
    name: str = ""
    status: str = ""
    output: str = ""


class Exit(Payload):
    exit_code: int = 0
    oom_killed: bool = False
    requested_stop: bool = False


class Request(Payload):
    exit_event: Exit | None = None


class Event(Payload):
    type: str = ""
    status: str = ""
    request: Request = Request()


class ImageRef(Payload):
    digest: str = ""


class Machine(Payload):
    """`config` is as it came, since a change has to send it back as a whole."""

    id: str
    name: str = ""
    state: str = ""
    region: str = ""
    instance_id: str = ""
    private_ip: str = ""
    config: dict[str, Json] | None = None
    incomplete_config: dict[str, Json] | None = None
    image_ref: ImageRef = ImageRef()
    checks: tuple[Check, ...] = ()
    events: tuple[Event, ...] = ()
    host_status: str = "ok"
    created_at: str = ""

    @property
    def is_gone(self) -> bool:
        return STATES.get(self.state) in (Status.TERMINATING, Status.TERMINATED)

    @property
    def is_known(self) -> bool:
        """Whether its host was there to tell of it."""
        return self.host_status == "ok" and self.config is not None

    @property
    def settings(self) -> Config:
        return Config.model_validate(self.config or self.incomplete_config or {})

    @property
    def mark(self) -> Mark | None:
        return from_text(self.settings.metadata.get(MARK, "")) or from_name(self.name)

    def to_observed(self, app: str) -> Observed:
        remote_id, status = f"{app}/{self.id}", STATES.get(self.state)
        if not self.is_known and not self.is_gone:
            return Observed(
                Kind.NODE,
                remote_id,
                Status.UNKNOWN,
                facts={"name": self.name, "app": app},
                mark=self.mark,
                detail=f"its host is {self.host_status}: what it is like now cannot be told",
            )
        detail = f"Fly.io says it is `{self.state}`" if status is None else self._detail(status)
        attrs: Attrs = {"region": self.region, **self.settings.attrs(app)}
        told = status or Status.UNKNOWN
        return Observed(
            Kind.NODE, remote_id, told, attrs, self._facts(app), self.mark, detail=detail, healthy=self._is_healthy
        )

    @property
    def _is_healthy(self) -> bool | None:
        return None if not self.checks else all(check.status != "critical" for check in self.checks)

    def _detail(self, status: Status) -> str:
        """Why it does not run, where that is told."""
        exits = (event.request.exit_event for event in self.events)
        last = next((exit for exit in exits if exit), None)
        if status is Status.RUNNING:
            return next((f"{check.name}: {check.output}" for check in self.checks if check.status == "critical"), "")
        if status not in (Status.STOPPED, Status.FAILED) or last is None or last.requested_stop:
            return ""
        return "it ran out of memory" if last.oom_killed else f"it ended with status {last.exit_code}"

    def _facts(self, app: str) -> dict[str, JsonValue]:
        guest = self.settings.guest.guest
        return {
            "name": self.name,
            "app": app,
            "hostname": host_of(app),
            "private_ip": self.private_ip or None,
            "internal_name": f"{self.id}.vm.{app}.internal",
            "region": self.region,
            "price_per_hour": float(guest.price_per_hour) if guest else None,
            "image_digest": self.image_ref.digest or None,
            "created_at": self.created_at,
            **self.settings.facts(app),
        }


class Volume(Payload):
    id: str
    name: str = ""
    state: str = ""
    size_gb: int = 0
    region: str = ""
    zone: str = ""
    attached_machine_id: str = ""
    host_status: str = "ok"

    @property
    def is_gone(self) -> bool:
        return VOLUME_STATES.get(self.state) in (Status.TERMINATING, Status.TERMINATED)

    def to_observed(self, app: str) -> Observed:
        status, detail = VOLUME_STATES.get(self.state, Status.UNKNOWN), ""
        attrs: Attrs = {"size_gb": self.size_gb, "region": self.region}
        if status is Status.UNKNOWN:
            detail = f"Fly.io says it is `{self.state}`"
        if self.host_status != "ok" and not self.is_gone:
            status, attrs, detail = Status.UNKNOWN, {}, f"its host is {self.host_status}"
        facts: dict[str, JsonValue] = {"name": self.name, "app": app, "zone": self.zone or None}
        facts |= {"attached_to": self.attached_machine_id or None}
        facts |= {"price_per_hour": round(float(VOLUME_GB_HOUR) * self.size_gb, 6)}
        return Observed(Kind.VOLUME, f"{app}/{self.id}", status, attrs, facts, from_name(self.name), detail)


class Grown(Payload):
    volume: Volume


class App(Payload):
    name: str = ""


class Token(Payload):
    org_slug: str = ""
    user: str = ""


class Address(Payload):
    ip: str = ""
    shared: bool = False

    def is_of(self, version: str) -> bool:
        """Whether it is an address of the app's own; `version` is `v4` or `v6`."""
        return not self.shared and (":" in self.ip) == (version == "v6")


class LogAttributes(Payload):
    message: str = ""


class LogLine(Payload):
    attributes: LogAttributes = LogAttributes()
