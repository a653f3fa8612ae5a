"""`local`: nodes are supervised process groups on this machine, with a folder, a log and a share of its GPUs.

The embedded default: it needs no account and costs nothing. `local_account` does the work, `local_machine` tells what
the machine has, `local_store` is the registry folder, `local_node` one node, `local_supervisor` the program that keeps
it up.
"""

import errno
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from pydantic import BaseModel

from gpuplan.core.capabilities import Capabilities, Idempotency, KindCapabilities, Mutability, ProviderKind
from gpuplan.core.desired import Kind
from gpuplan.core.errors import (
    Conflict,
    Failure,
    InvalidRequest,
    ProviderError,
    QuotaExceeded,
    Unavailable,
)
from gpuplan.core.marks import Mark
from gpuplan.core.observed import UNSETTLED, Observed, Status
from gpuplan.core.offers import Offer, OfferQuery, Pricing
from gpuplan.core.ports import Account, Links, Listed, OpenContext, ProviderType, Want
from gpuplan.net.threads import run_blocking
from gpuplan.providers.local_account import LocalAccount
from gpuplan.providers.local_gpus import CannotTell
from gpuplan.providers.local_logs import LogReader
from gpuplan.providers.local_machine import Options
from gpuplan.providers.local_node import Busy
from gpuplan.providers.local_store import Damaged
from gpuplan.providers.local_supervisor import LOG

if TYPE_CHECKING:
    from gpuplan.providers.local_channel import LocalChannel

P = ParamSpec("P")
T = TypeVar("T")

NODE = KindCapabilities(
    attributes={
        "command": Mutability.RESTARTS,
        "env": Mutability.RESTARTS,
        "gpu": Mutability.REPLACE,
        "cpu": Mutability.REPLACE,
        "memory_gb": Mutability.REPLACE,
        "volumes": Mutability.REPLACE,
        "setup": Mutability.REPLACE,
        "restart": Mutability.IN_PLACE,
        "labels": Mutability.IN_PLACE,
        "ports": Mutability.LOCAL,
    },
    idempotency=Idempotency.KEY,
)
VOLUME = KindCapabilities(attributes={"size_gb": Mutability.GROW_ONLY}, idempotency=Idempotency.KEY)
CAPABILITIES = Capabilities(
    kind=ProviderKind.LOCAL,
    kinds={Kind.NODE: NODE, Kind.VOLUME: VOLUME},
    ready_timeout_seconds=30,
    poll_interval_seconds=0.2,
    pricing=(Pricing.FIXED,),
    stop_start=True,
    bills_when_stopped=False,
    exec=True,
    logs=True,
    log_streaming=True,
    raw_tcp=True,
    symmetric_ports=True,
    shared_filesystem=True,
    workspace_path=".",
    notes=("nodes share this machine's files and network: they are kept apart, not confined",),
)
ERRORS: Mapping[int, type[ProviderError]] = {
    errno.EACCES: InvalidRequest,
    errno.EPERM: InvalidRequest,
    errno.EROFS: InvalidRequest,
    errno.ENOTDIR: InvalidRequest,
    errno.ENOSPC: QuotaExceeded,
    errno.EDQUOT: QuotaExceeded,
}


class Local:
    """This machine as an account."""

    def __init__(self, options: Options, context: OpenContext) -> None:
        self._name = context.block.name
        self._clock = context.clock
        self._redactor = context.redactor
        self._account = LocalAccount(self._name, options, context.environ)

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    async def health(self) -> Account:
        return await self._blocking("look at its registry", self._account.health)

    async def offers(self, query: OfferQuery) -> Sequence[Offer]:
        return await self._blocking("tell what it has", self._account.offers, query, self._clock.now())

    async def list(self, kind: Kind, known: frozenset[str]) -> Listed:
        return Listed(await self._blocking(f"list its {kind}s", self._account.list, kind))

    async def get(self, kind: Kind, remote_id: str) -> Observed | None:
        return await self._blocking(f"look at {kind} {remote_id}", self._account.get, kind, remote_id)

    async def create(self, want: Want, mark: Mark, links: Links) -> Observed:
        return await self._blocking(f"create {want.address}", self._account.create, want, mark, self._clock.now())

    async def delete(self, kind: Kind, remote_id: str, links: Links) -> None:
        await self._blocking(f"delete {kind} {remote_id}", self._account.delete, kind, remote_id)

    async def advance(self, want: Want, mark: Mark, observed: Observed, links: Links) -> Observed:
        """Start what a crash left unstarted."""
        if want.kind is not Kind.NODE:
            return observed
        return await self._blocking(f"start {want.address}", self._account.bring_up, observed.remote_id)

    async def update(self, want: Want, remote_id: str, links: Links) -> Observed:
        return await self._blocking(f"update {want.address}", self._account.update, want, remote_id)

    async def stop(self, kind: Kind, remote_id: str) -> Observed:
        return await self._blocking(f"stop {kind} {remote_id}", self._account.stop, kind, remote_id)

    async def start(self, kind: Kind, remote_id: str) -> Observed:
        return await self._blocking(f"start {kind} {remote_id}", self._account.start, kind, remote_id)

    async def channel(self, remote_id: str, member: int | None = None) -> "LocalChannel":
        """What a command leaves running is ended with it."""
        from gpuplan.providers.local_channel import LocalChannel

        folder = await self._blocking(f"reach node {remote_id}", self._account.node_folder, remote_id, "reach")
        return LocalChannel(self._name, folder, self._account.inherited, self._redactor, self._blocking)

    async def logs(self, kind: Kind, remote_id: str, *, follow: bool, tail: int | None) -> AsyncIterator[str]:
        """What the node's command printed; with `follow` until the node runs no more."""
        operation = f"read the log of {kind} {remote_id}"
        folder = await self._blocking(operation, self._account.node_folder, remote_id, "read the log of")
        reader = LogReader(folder / LOG, tail)
        ended = not follow
        while True:
            while (lines := await self._blocking(operation, reader.more)) is not None:
                for line in lines:
                    yield line
            if ended:
                break
            # Look before the last read, not after it: what is printed in between is then still read.
            seen = await self.get(kind, remote_id)
            ended = seen is None or seen.status not in {Status.RUNNING, *UNSETTLED}
            if not ended:
                await self._clock.sleep(CAPABILITIES.poll_interval_seconds)
        if reader.rest:
            yield reader.rest

    async def close(self) -> None:
        """Nothing is held open."""

    async def _blocking(self, operation: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` in a thread, and translate what can go wrong on a machine."""
        try:
            return await run_blocking(work, *args, **kwargs)
        except OSError as exc:
            message = f"{exc.strerror}: {exc.filename}" if exc.filename else str(exc.strerror)
            raise ERRORS.get(exc.errno or 0, Unavailable)(Failure(self._name, operation, message)) from exc
        except Busy as exc:
            raise Conflict(Failure(self._name, operation, str(exc))) from exc
        except (CannotTell, Damaged) as exc:
            raise Unavailable(Failure(self._name, operation, str(exc))) from exc


def _open(options: BaseModel, context: OpenContext) -> Local:
    assert isinstance(options, Options)
    return Local(options, context)


PROVIDER = ProviderType(
    name="local",
    title="processes on this machine",
    options=Options,
    capabilities=lambda _: CAPABILITIES,
    open=_open,
)
