"""An account at an emulator under test, and the faults it is put through. Made by `HttpProviderConformance`."""

from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gpuplan.core.desired import ProviderBlock
from gpuplan.core.errors import ProviderError
from gpuplan.core.observed import Status
from gpuplan.core.offers import OfferQuery
from gpuplan.core.ports import CanStop, CanUpdate, OpenContext, Provider, ProviderType
from gpuplan.core.secret import Redactor
from gpuplan.core.values import JsonValue
from gpuplan.net.http_provider import HttpOpener
from gpuplan.testing.bench import Bench, Made
from gpuplan.testing.emulated import Emulated

READS = ("health", "offers", "list", "get")
EFFECTS = ("update", "stop", "start", "delete")
HANG_SECONDS = 0.3
"""Real time: how long a check waits for an answer that never comes."""


@dataclass(frozen=True, slots=True)
class FaultCase:
    """One way a call can go wrong; `refuses`: the provider says itself that it did nothing."""

    kind: str
    status: int = 500
    refuses: bool = False
    harmless: bool = False

    @property
    def is_before(self) -> bool:
        """Whether nothing happens; an adapter's table may know that."""
        return self.kind == "status"

    def __str__(self) -> str:
        return f"{self.kind}-{self.status}" if self.kind.startswith("status") else self.kind

    def fields(self, provider: str, times: int | None) -> dict[str, JsonValue]:
        fields: dict[str, JsonValue] = {"provider": provider, "status": self.status, "times": times}
        if times is None:
            fields |= {"probability": 1.0}
        if self.status == 429:
            fields["retry_after"] = 2
        if self.kind == "latency":
            fields["delay_s"] = 5
        return fields


FAULTS = (
    *(FaultCase("status", status) for status in (500, 502, 503, 504)),
    *(FaultCase("status_after", status) for status in (500, 502, 503, 504)),
    FaultCase("status", 429, refuses=True),
    FaultCase("drop"),
    FaultCase("drop_after"),
    FaultCase("hang"),
    FaultCase("garbage"),
    FaultCase("truncate"),
    FaultCase("latency", harmless=True),
)


@dataclass(slots=True)
class HttpBench(Bench):
    """An account at an emulator."""

    emulator: Emulated = field(kw_only=True)
    type: ProviderType = field(kw_only=True)
    options: Mapping[str, JsonValue] = field(default_factory=dict, kw_only=True)
    """Of the provider block, for every account."""
    opened: list[Provider] = field(default_factory=list, kw_only=True)

    def open(self, options: Mapping[str, JsonValue], *, emulator: str | None = None) -> Provider:
        """Another account of the same type; without `emulator` as if it were the real one, in an empty environment."""
        options = {**self.options, **options}
        block = ProviderBlock(self.type.name, self.type.name, options, ())
        context = OpenContext(block, self.clock, {"HOME": "/nonexistent"}, Redactor(), emulator)
        self.opened.append(self.type.open(self.type.options.model_validate(options), context))
        return self.opened[-1]

    def open_with_key(self, key: str, public_path: str) -> Provider:
        """An account whose credentials all are `key`."""
        opener = self.type.open
        assert isinstance(opener, HttpOpener)
        wanted = opener.profile(self.type.options.model_validate(self.options)).credentials
        endpoint = f"{self.emulator.url}/{self.type.name}{public_path}"
        return self.open({"endpoint": endpoint, **{name: key for name, one in wanted.items() if one.required}})

    def patient_for(self, fault: FaultCase) -> Provider:
        """This account, not waiting long where no answer will come."""
        return (
            self.open({"timeout": HANG_SECONDS}, emulator=self.emulator.url) if fault.kind == "hang" else self.provider
        )

    async def do(self, verb: str, made: Made, provider: Provider | None = None) -> object:
        """Call one verb of the contract on a node."""
        provider, kind, id = provider or self.provider, made.kind, made.remote_id
        match verb:
            case "health":
                return await provider.health()
            case "offers":
                return await provider.offers(OfferQuery())
            case "list":
                return await provider.list(kind, frozenset({id}))
            case "get":
                return await provider.get(kind, id)
            case "delete":
                await provider.delete(kind, id, self.links)
                return None
            case "update" if isinstance(provider, CanUpdate):
                want, _ = self.ask(kind, **self.changes[kind])
                return await provider.update(replace(want, update=frozenset(self.changes[kind])), id, self.links)
            case "stop" if isinstance(provider, CanStop):
                return await provider.stop(kind, id)
            case "start" if isinstance(provider, CanStop):
                return await provider.start(kind, id)
        raise AssertionError(f"no verb `{verb}`")

    @property
    def effects(self) -> list[str]:
        """The verbs that change a node and that this provider has; delete is the last."""
        can_stop = isinstance(self.provider, CanStop)
        return [
            v for v in EFFECTS if v == "delete" or (can_stop if v != "update" else bool(self.changes.get(self.main)))
        ]

    async def live_through(self) -> None:
        """Every verb on every kind, once."""
        await self.do("health", await self.make(self.main))
        for kind in self.asks:
            made = await self.make(kind)
            for verb in ("offers", "list", "get") if kind is self.main else ("list", "get"):
                await self.do(verb, made)
            if self.changes.get(kind):
                await self.do("update", made)
            if kind is self.main and isinstance(self.provider, CanStop):
                await self.until(replace(made, seen=await self.provider.stop(kind, made.remote_id)), Status.STOPPED)
                await self.until(replace(made, seen=await self.provider.start(kind, made.remote_id)), Status.RUNNING)
            await self.until_gone(kind, made.remote_id)

    def living(self, token: str) -> list[dict[str, Any]]:
        return self.emulator.living(token=token)


async def outcome_of(work: Coroutine[Any, Any, object]) -> object:
    """What it returned, or the provider's error."""
    try:
        return await work
    except ProviderError as error:
        return error
