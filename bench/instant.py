"""A provider without latency and without a world: what `terraform_data` is to Terraform.

Its objects are those the state knows, always running; a create only makes up an id. Used by name in the spec,
`type: "bench.instant:PROVIDER"`, so that a run pays for everything but a network.
"""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from gpuplan.core.capabilities import Capabilities, KindCapabilities, Mutability, ProviderKind
from gpuplan.core.desired import Kind
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import Offer, OfferQuery
from gpuplan.core.ports import Account, Links, Listed, OpenContext, ProviderType, Want

CAPABILITIES = Capabilities(
    kind=ProviderKind.LOCAL,
    kinds={Kind.NODE: KindCapabilities({"labels": Mutability.IN_PLACE})},
    requires_readiness_poll=False,
    max_concurrency=1000,
    bills_when_stopped=False,
    offers=False,
)


class Options(BaseModel):
    """It has none."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Instant:
    """The one account."""

    def __init__(self) -> None:
        self._created: dict[str, Observed] = {}
        self._deleted: set[str] = set()

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    async def health(self) -> Account:
        return Account("instant")

    async def offers(self, query: OfferQuery) -> Sequence[Offer]:
        return ()

    async def list(self, kind: Kind, known: frozenset[str]) -> Listed:
        kept = [_running(kind, remote_id) for remote_id in sorted(known - self._created.keys() - self._deleted)]
        return Listed([*kept, *self._created.values()])

    async def get(self, kind: Kind, remote_id: str) -> Observed | None:
        if remote_id in self._deleted:
            return None
        return self._created.get(remote_id) or _running(kind, remote_id)

    async def create(self, want: Want, mark: Mark, links: Links) -> Observed:
        created = _running(want.kind, mark.token, mark)
        self._created[created.remote_id] = created
        return created

    async def update(self, want: Want, remote_id: str, links: Links) -> Observed:
        return self._created.get(remote_id) or _running(want.kind, remote_id)

    async def delete(self, kind: Kind, remote_id: str, links: Links) -> None:
        self._created.pop(remote_id, None)
        self._deleted.add(remote_id)

    async def close(self) -> None:
        return None


def _running(kind: Kind, remote_id: str, mark: Mark | None = None) -> Observed:
    return Observed(kind, remote_id, Status.RUNNING, mark=mark)


def _capabilities(_: BaseModel) -> Capabilities:
    return CAPABILITIES


def _open(_: BaseModel, __: OpenContext) -> Instant:
    return Instant()


PROVIDER = ProviderType(
    name="instant", title="Nothing, at once", options=Options, capabilities=_capabilities, open=_open
)
