"""A provider type from outside: what its author writes. The cloud is a folder, every node of it a file."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from gpuplan.core.address import Address
from gpuplan.core.capabilities import Capabilities, KindCapabilities, Mutability, ProviderKind
from gpuplan.core.desired import Kind
from gpuplan.core.errors import Failure, NotFound
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import Offer, OfferQuery
from gpuplan.core.ports import Account, Links, Listed, OpenContext, ProviderType, Want

CAPABILITIES = Capabilities(
    kind=ProviderKind.CLOUD,
    kinds={Kind.NODE: KindCapabilities({"image": Mutability.REPLACE, "labels": Mutability.REPLACE})},
    poll_interval_seconds=0.01,
    offers=False,
)


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: str


class Acme:
    def __init__(self, folder: Path, *, forgives: bool) -> None:
        self._folder = folder
        self._forgives = forgives

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    async def health(self) -> Account:
        return Account(str(self._folder))

    async def offers(self, query: OfferQuery) -> Sequence[Offer]:
        return []

    async def list(self, kind: Kind, known: frozenset[str]) -> Listed:
        return Listed([_observed(file) for file in sorted(self._folder.iterdir())])

    async def get(self, kind: Kind, remote_id: str) -> Observed | None:
        file = self._folder / remote_id
        return _observed(file) if file.exists() else None

    async def create(self, want: Want, mark: Mark, links: Links) -> Observed:
        file = self._folder / want.name
        address = None if mark.address is None else str(mark.address)
        file.write_text(json.dumps({"attrs": dict(want.attrs), "token": mark.token, "address": address}))
        return _observed(file)

    async def delete(self, kind: Kind, remote_id: str, links: Links) -> None:
        file = self._folder / remote_id
        if not file.exists() and not self._forgives:
            raise NotFound(Failure("acme", f"delete {remote_id}"))
        file.unlink(missing_ok=True)

    async def close(self) -> None:
        """Nothing is held open."""


def _observed(file: Path) -> Observed:
    told = json.loads(file.read_text())
    mark = Mark(told["token"], address=told["address"] and Address.parse(told["address"]))
    return Observed(Kind.NODE, file.name, Status.RUNNING, attrs=told["attrs"], mark=mark)


def _open(options: BaseModel, context: OpenContext) -> Acme:
    assert isinstance(options, Options)
    return Acme(Path(options.folder), forgives="ACME_IS_STRICT" not in os.environ)


PROVIDER = ProviderType("acme", "Acme Cloud", Options, lambda options: CAPABILITIES, _open)
