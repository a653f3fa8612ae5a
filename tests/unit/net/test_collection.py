"""Collections whose single objects have no call, or one of another route."""

from collections.abc import AsyncGenerator
from datetime import datetime

import pytest

from gpuplan.core.desired import Kind
from gpuplan.core.errors import NotFound
from gpuplan.core.observed import Observed, Status
from gpuplan.core.secret import Secret
from gpuplan.net.api import AccountFacts, Api
from gpuplan.net.collection import Collection
from gpuplan.net.exchange import Answer, Call
from gpuplan.net.payload import Payload
from gpuplan.testing.clock import FakeClock


class Disk(Payload):
    id: str

    def to_observed(self, now: datetime) -> Observed:
        return Observed(Kind.VOLUME, self.id, Status.RUNNING)


class Shelf:
    """Lists two disks, and remembers how it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def send(self, call: Call) -> Answer:
        self.asked.append((call.method, call.path))
        return Answer(200, {}, {"disks": [{"id": "1"}, {"id": "2"}]})

    async def lines(self, call: Call) -> AsyncGenerator[str, None]:
        for line in list[str]():
            yield line

    async def close(self) -> None:
        """Nothing is open."""


DISKS = Collection(
    Kind.VOLUME, "/all-disks", "", "disks", Disk, prefix="d/", item_route="/disks/{id}", is_only_listed=True
)


def api(shelf: Shelf) -> Api:
    account = AccountFacts("acme", "https://acme.test", {"key": Secret("k")})
    return Api(shelf, shelf, account, FakeClock(), None)


def test_an_object_without_a_call_of_its_own_is_looked_for_in_the_listing() -> None:
    shelf = Shelf()

    assert Disk(id="2") == FakeClock().run(DISKS.find(api(shelf), "d/2"))
    assert FakeClock().run(DISKS.find(api(shelf), "d/3")) is None
    assert [("GET", "/all-disks")] * 2 == shelf.asked


def test_fetching_what_is_not_listed_is_not_found() -> None:
    with pytest.raises(NotFound, match="resize it"):
        FakeClock().run(DISKS.fetch(api(Shelf()), "d/3", "resize it"))


def test_an_object_is_removed_at_its_own_route() -> None:
    shelf = Shelf()
    FakeClock().run(DISKS.remove(api(shelf), "d/2"))

    assert [("DELETE", "/disks/2")] == shelf.asked
