"""Fly.io: https://fly.io/docs/machines/api/. Machines and volumes, all of them in the app of their provider block."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import Kind
from gpuplan.core.errors import (
    AuthFailed,
    Conflict,
    Failure,
    InvalidRequest,
    NoCapacity,
    NotFound,
    OutcomeUnknown,
    ProtocolMismatch,
    ProviderError,
    Unavailable,
)
from gpuplan.core.kinds import NodeAttrs, VolumeAttrs
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import Offer, OfferQuery
from gpuplan.core.ports import Account, Links, Listed, SshTarget, Want
from gpuplan.net.api import Api
from gpuplan.net.http_provider import http_type
from gpuplan.net.profile import Effect
from gpuplan.providers import fly_bodies as bodies
from gpuplan.providers.fly_apps import Apps
from gpuplan.providers.fly_config import SSH_PORT, Body
from gpuplan.providers.fly_guests import PRESETS, Guest, Regions, Room, Unfit, to_guest, to_offers
from gpuplan.providers.fly_tables import (
    CAPABILITIES,
    LOG_HOST,
    LOGS,
    MACHINE,
    MACHINES,
    METADATA,
    PLACEMENTS,
    PROFILE,
    REGIONS,
    VOLUME,
    VOLUMES,
    Options,
)
from gpuplan.providers.fly_wire import Grown, LogLine, Machine, Volume

DOUBTS = (Conflict, OutcomeUnknown, ProtocolMismatch)
GOING_UP = frozenset({Status.PENDING, Status.STARTING, Status.RUNNING})
GOING_DOWN = frozenset({Status.STOPPING, Status.STOPPED})
_TAKEN_BY = re.compile(r"machine ID (\w+) already exists")


class Fly:
    """One organisation, and one app of it. Remote ids are those of Fly.io behind the name of the app."""

    def __init__(self, api: Api, options: Options) -> None:
        self._api = api
        self._options = options
        self._apps = Apps(api, options)
        self._ports: dict[str, set[int]] = {}
        """By app, the ports that lead to one of its machines."""

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    async def health(self) -> Account:
        token = await self._apps.token()
        return Account(self._apps.account_id(token), self._api.endpoint)

    async def offers(self, query: OfferQuery) -> Sequence[Offer]:
        asked = query.regions or self._options.regions
        told = await self._api.call("GET", REGIONS, answer=Regions, to="list regions")
        regions = [region for region in told.regions if not asked or region.code in asked]
        sizes = [guest for guest in PRESETS.values() if not guest.card] if query.wants("", 0) else []
        rooms = await self._api.together(self._room(guest) for guest in sizes)
        limits = {guest.preset: room for guest, room in zip(sizes, rooms, strict=True) if room is not None}
        has_gpus, provider, now = self._options.retired_gpus, self._api.provider, self._api.clock.now()
        return list(to_offers(regions, limits, query, has_gpus=has_gpus, provider=provider, now=now))

    async def list(self, kind: Kind, known: frozenset[str]) -> Listed:
        apps = sorted({await self._apps.name(), *(id.partition("/")[0] for id in known if "/" in id)})
        found = await self._api.together(self._apps.things(kind, app) for app in apps)
        return Listed([thing.to_observed(app) for app, things in zip(apps, found, strict=True) for thing in things])

    async def get(self, kind: Kind, remote_id: str) -> Observed | None:
        (app, id), to = await self._place(remote_id), f"look at {kind} {remote_id}"
        thing: Machine | Volume
        try:
            with self._apps.known_by_then(app):
                if kind is Kind.VOLUME:
                    thing = await self._api.call("GET", VOLUME, app, id, answer=Volume, to=to)
                else:
                    thing = await self._api.call("GET", MACHINE, app, id, answer=Machine, to=to)
        except NotFound:
            return None
        return thing.to_observed(app)

    async def create(self, want: Want, mark: Mark, links: Links) -> Observed:
        to = f"create {want.address}"
        try:
            with self._apps.gaining(mark.token):
                if want.kind is Kind.VOLUME:
                    seen = await self._create_volume(want, mark, to)
                else:
                    seen = await self._create_machine(want, mark, links, to)
        except Unfit as exc:
            raise InvalidRequest(Failure(self._api.provider, to, str(exc))) from exc
        self._apps.gained(mark.token, seen.remote_id)
        return seen

    async def delete(self, kind: Kind, remote_id: str, links: Links) -> None:
        (app, id), to = await self._place(remote_id), f"delete {kind} {remote_id}"
        self._apps.loses(remote_id)
        if kind is Kind.VOLUME:
            await self._api.remove(VOLUME, app, id, to=to)
        else:
            await self._api.remove(MACHINE, app, id, query={"force": True}, to=to)

    async def update(self, want: Want, remote_id: str, links: Links) -> Observed:
        (app, id), to = await self._place(remote_id), f"update {want.address}"
        if want.kind is Kind.VOLUME:
            size: Body = {"size_gb": VolumeAttrs.of(want.attrs).size_gb}
            grown = await self._api.call("PUT", f"{VOLUME}/extend", app, id, json=size, answer=Grown, to=to)
            return grown.volume.to_observed(app)
        try:
            machine = await self._fetch(app, id, to)
            if want.update == {"labels"}:
                return (await self._label(want, app, machine, to)).to_observed(app)
            return (await self._change(want, app, machine, links, to)).to_observed(app)
        except Unfit as exc:
            raise InvalidRequest(Failure(self._api.provider, to, str(exc))) from exc

    async def stop(self, kind: Kind, remote_id: str) -> Observed:
        return await self._switch(remote_id, "stop", GOING_DOWN, to=f"stop {kind} {remote_id}")

    async def start(self, kind: Kind, remote_id: str) -> Observed:
        return await self._switch(remote_id, "start", GOING_UP, to=f"start {kind} {remote_id}")

    async def logs(self, kind: Kind, remote_id: str, *, follow: bool, tail: int | None) -> AsyncIterator[str]:
        """The latest lines, about a hundred: there is no stream to follow."""
        (app, id), to = await self._place(remote_id), f"read the log of {kind} {remote_id}"
        lines = await self._api.call(
            "GET", LOGS, app, host=LOG_HOST, query={"instance": id}, answer=tuple[LogLine, ...], at="data", to=to
        )
        count = len(lines) if tail is None else tail
        for line in lines[-count:] if count else ():
            yield line.attributes.message.rstrip("\n")

    def ssh_target(self, observed: Observed, member: int | None = None) -> SshTarget | None:
        """At the app's address where keys were let in, else in the private network."""
        host, port, private, user = map(observed.facts.get, ("ssh_host", "ssh_port", "private_ip", "ssh_user"))
        if isinstance(host, str) and isinstance(port, int):
            return self._api.ssh_target(host, port, str(user))
        return self._api.ssh_target(private, SSH_PORT, str(user)) if isinstance(private, str) else None

    async def close(self) -> None:
        # An empty app costs nothing, and its address little: the next run that deletes something tries again.
        try:
            with suppress(ProviderError):
                await self._apps.tidy()
        finally:
            await self._api.close()

    async def _create_machine(self, want: Want, mark: Mark, links: Links, to: str) -> Observed:
        asked = NodeAttrs.of(want.attrs)
        guest = Guest.of_ref(want.offer.ref) if want.offer else to_guest(asked)
        region, gpu = want.offer.region if want.offer else asked.region, str(asked.gpu or guest.preset)
        if region is None:
            # Fly.io would take the region that is nearest to whoever asks.
            raise Unfit("without an offer it needs a `region`")
        app, mount = await self._mounted(asked, region, gpu, links, to)
        keys = bodies.keys_of(asked, links)
        outer = await self._outer_ports(app, asked, {}, mark.token, to)
        body = bodies.to_launch(want, mark, guest.check(), region, keys=keys, outer=outer, mount=mount)
        try:
            with self._apps.present(app):
                made = await self._api.call(
                    "POST", MACHINES, app, json=body, key=mark.token, answer=Machine, gpu=gpu, to=to
                )
        except Conflict as refusal:
            made = await self._earlier(refusal, app, mark, to)
        return made.to_observed(app)

    async def _mounted(
        self, asked: NodeAttrs, region: str, gpu: str, links: Links, to: str
    ) -> tuple[str, tuple[str, str] | None]:
        """The app of a node, and what it mounts there: a volume ties its node to its own app and region."""
        disk = bodies.volume_of(asked, links)
        if disk is None:
            return await self._apps.ensure(to), None
        app, volume = await self._place(disk.remote_id)
        home = disk.region or (await self._api.call("GET", VOLUME, app, volume, answer=Volume, to=to)).region
        if home != region:
            message = f"its volume is in {home}, and the node would be in {region}"
            raise NoCapacity(Failure(self._api.provider, to, message, gpu=gpu))
        return app, (volume, disk.mount)

    async def _earlier(self, refusal: Conflict, app: str, mark: Mark, to: str) -> Machine:
        """The machine that an earlier attempt of this create made: its name is taken."""
        taken = _TAKEN_BY.search(refusal.failure.message)
        machine = await self._fetch(app, taken[1], to) if taken else None
        if machine is None or machine.mark is None or machine.mark.token != mark.token:
            raise refusal
        return machine

    async def _create_volume(self, want: Want, mark: Mark, to: str) -> Observed:
        body = bodies.to_volume(want, mark)
        app = await self._apps.ensure(to)
        with self._apps.present(app):
            volume = await self._api.call("POST", VOLUMES, app, json=body, answer=Volume, to=to)
        return volume.to_observed(app)

    async def _change(self, want: Want, app: str, machine: Machine, links: Links, to: str) -> Machine:
        """Send the whole configuration back, if it is still the one that was read."""
        asked, settings = NodeAttrs.of(want.attrs), machine.settings
        guest = to_guest(asked, settings.guest.guest)
        keys = bodies.keys_of(asked, links) if "ssh_keys" in want.update else ()
        outer = settings.outer_ports
        if want.update & {"ports", "ssh_keys"}:
            outer = await self._outer_ports(app, asked, outer, machine.id, to)
        body = bodies.to_change(want, machine, guest, keys=keys, outer=outer)
        return await self._api.call(
            "POST", MACHINE, app, machine.id, json=body, effect=Effect.REPEATABLE, answer=Machine, to=to
        )

    async def _label(self, want: Want, app: str, machine: Machine, to: str) -> Machine:
        body = bodies.to_label_change(NodeAttrs.of(want.attrs).labels, machine)
        await self._api.call("PATCH", METADATA, app, machine.id, json=body, effect=Effect.REPEATABLE, to=to)
        return await self._fetch(app, machine.id, to)

    async def _switch(self, remote_id: str, action: str, goal: frozenset[Status], *, to: str) -> Observed:
        """What does not fit the state is refused: it may be there already, by an earlier attempt."""
        app, id = await self._place(remote_id)
        refused: ProviderError | None = None
        try:
            await self._api.call("POST", f"{MACHINE}/{action}", app, id, effect=Effect.REPEATABLE, to=to)
        except DOUBTS as error:
            refused = error
        seen = (await self._fetch(app, id, to)).to_observed(app)
        if refused is not None and seen.status not in goal:
            raise refused
        return seen

    async def _fetch(self, app: str, id: str, to: str) -> Machine:
        """A machine that is there, and whose host tells of it."""
        machine = await self._api.call("GET", MACHINE, app, id, answer=Machine, to=to)
        if machine.is_gone:
            raise NotFound(Failure(self._api.provider, to, f"it is {machine.state}"))
        if not machine.is_known:
            raise Unavailable(Failure(self._api.provider, to, f"its host is {machine.host_status}"))
        return machine

    async def _outer_ports(
        self, app: str, asked: NodeAttrs, present: dict[int, int], seed: str, to: str
    ) -> dict[int, int]:
        """The app's ports for those of a machine; an app that leads anywhere needs an address."""
        inner = bodies.inner_ports(asked)
        if not inner:
            return {}
        await self._apps.expose(app, to)
        async with self._api.alone("ports"):
            if app not in self._ports:
                machines = await self._apps.machines(app)
                self._ports[app] = bodies.ports_in([machine.settings for machine in machines if not machine.is_gone])
            outer = bodies.to_outer_ports(inner, self._ports[app], present, seed)
            self._ports[app].update(outer.values())
        return outer

    async def _place(self, remote_id: str) -> tuple[str, str]:
        """App and id; an id alone is in the app of this block."""
        app, _, id = remote_id.rpartition("/")
        return app or await self._apps.name(), id

    async def _room(self, guest: Guest) -> dict[str, int] | None:
        """By region, how many of a size can be had; None where the token, one for a single app, may not ask."""
        compute, to = bodies.to_guest_body(guest), "look what there is room for"
        body: Body = {"org_slug": await self._apps.organization(), "compute": compute, "region": "any"}
        try:
            rooms = await self._api.call(
                "POST", PLACEMENTS, json=body, effect=Effect.NONE, answer=tuple[Room, ...], at="regions", to=to
            )
        except AuthFailed:
            return None
        return {room.region: room.count for room in rooms}


PROVIDER = http_type(
    name="fly",
    title="Fly.io",
    adapter=Fly,
    options=Options,
    capabilities=CAPABILITIES,
    profile=PROFILE,
    node_options=bodies.NodeOptions,
    defaults=lambda environ: {"org": environ["FLY_ORG"]} if environ.get("FLY_ORG") else {},
)
