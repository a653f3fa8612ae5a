"""Objects of one kind at one route of an API, with the calls that are alike for all of them: list, find, remove.

An adapter has a table of these; a kind may be spread over several (virtual and bare metal machines), whose remote ids
then differ by a prefix.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from gpuplan.core.desired import Kind
from gpuplan.core.errors import Failure, NotFound
from gpuplan.core.observed import Observed
from gpuplan.net.api import Api


class Observable(Protocol):
    """A payload that can be told in our words."""

    def to_observed(self, now: datetime) -> Observed:
        """What the provider shows of the object; `remote_id` is the provider's own id. Pure."""
        ...


P = TypeVar("P", bound=Observable, covariant=True)


@dataclass(frozen=True, slots=True)
class Collection(Generic[P]):
    """`one` and `many` are the paths, in an answer, of a single object and of a listing's items."""

    kind: Kind
    route: str
    one: str
    many: str
    payload: type[P]
    prefix: str = ""
    """In front of the remote ids of these objects."""
    item_route: str = ""
    """Of a single object, where it is not `route` with the id behind it: `/disks/{id}`."""
    is_only_listed: bool = False
    """There is no call for a single object: it is looked for in the listing."""

    @property
    def item(self) -> str:
        """The route of a single object."""
        return self.item_route or f"{self.route}/{{id}}"

    async def list(self, api: Api) -> list[P]:
        pages = api.pages(self.route, items=self.many, answer=self.payload, to=f"list {self.kind}s")
        return [item async for item in pages]

    async def find(self, api: Api, remote_id: str) -> P | None:
        """None is certain absence."""
        if self.is_only_listed:
            return await self._listed(api, remote_id)
        to = f"look at {self.kind} {remote_id}"
        return await api.find("GET", self.item, self.own_id(remote_id), answer=self.payload, at=self.one, to=to)

    async def fetch(self, api: Api, remote_id: str, to: str) -> P:
        """As `find`; raises NotFound."""
        if not self.is_only_listed:
            return await api.call("GET", self.item, self.own_id(remote_id), answer=self.payload, at=self.one, to=to)
        found = await self._listed(api, remote_id)
        if found is None:
            raise NotFound(Failure(api.provider, to))
        return found

    async def remove(self, api: Api, remote_id: str) -> None:
        """What is gone already is success."""
        await api.remove(self.item, self.own_id(remote_id), to=f"delete {self.kind} {remote_id}")

    def observe(self, item: Observable, now: datetime) -> Observed:
        seen = item.to_observed(now)
        return replace(seen, remote_id=f"{self.prefix}{seen.remote_id}") if self.prefix else seen

    def own_id(self, remote_id: str) -> str:
        """The id as the provider knows it."""
        return remote_id.removeprefix(self.prefix)

    async def _listed(self, api: Api, remote_id: str) -> P | None:
        now = api.clock.now()
        items = await self.list(api)
        return next((item for item in items if self.observe(item, now).remote_id == remote_id), None)


def collection_of(collections: Iterable[Collection[P]], kind: Kind, remote_id: str) -> Collection[P]:
    """Where the object with that id is: of the collections of its kind, the one with the longest fitting prefix.

    Raises KeyError when there is none.
    """
    fitting = [each for each in collections if each.kind is kind and remote_id.startswith(each.prefix)]
    if not fitting:
        raise KeyError(f"{kind} {remote_id}")
    return max(fitting, key=lambda each: len(each.prefix))
