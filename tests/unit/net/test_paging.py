from collections.abc import Sequence
from typing import Any

import pytest

from gpuplan.core.errors import Failure, NotFound, ProtocolMismatch, Unavailable
from gpuplan.net.exchange import Answer, Call
from gpuplan.net.paging import walk
from gpuplan.net.profile import Cursor, Effect, LinkHeader, Numbered, Offset, Paging, Rising
from gpuplan.testing.clock import FakeClock


class Pages:
    """A listing of numbers, split as the test says; remembers how it was asked."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        self._answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    async def send(self, call: Call) -> Answer:
        self.asked.append({**call.query, **(call.body if isinstance(call.body, dict) else {})})
        return self._answers.pop(0)


def listed(pages: Pages, paging: Paging | None) -> list[object]:
    call = Call("GET", "/nodes", "/nodes", "list nodes", Effect.NONE)

    async def main() -> list[object]:
        return [item async for item in walk(pages, call, paging, "items", "acme")]

    return FakeClock().run(main())


def answer(*items: int, headers: dict[str, str] | None = None, **more: Any) -> Answer:
    return Answer(200, headers or {}, {"items": list(items), **more})


CASES = [
    (None, [answer(1, 2)], [{}]),
    (
        Cursor("cursor", at="next", size="limit", page_size=2),
        [answer(1, next="b"), answer(2, next="")],
        [{"limit": 2}, {"limit": 2, "cursor": "b"}],
    ),
    (
        Cursor("cursor", at="next", more="more"),
        [answer(1, next="b", more=True), answer(2, next="c", more=False)],
        [{}, {"cursor": "b"}],
    ),
    (
        Cursor("NextToken", at="next", in_body=True),
        [answer(1, next="b"), answer(2)],
        [{}, {"NextToken": "b"}],
    ),
    (
        Numbered(at="next_page", page_size=1),
        [answer(1, next_page=2), answer(2, next_page=None)],
        [{"page": 1, "per_page": 1}, {"page": 2, "per_page": 1}],
    ),
    (
        Numbered(page_size=1, size="size"),
        [answer(1), answer(2), answer()],
        [{"page": 1, "size": 1}, {"page": 2, "size": 1}, {"page": 3, "size": 1}],
    ),
    (
        Offset(page_size=1, total="count"),
        [answer(1, count=2), answer(2, count=2)],
        [{"offset": 0, "limit": 1}, {"offset": 1, "limit": 1}],
    ),
    (
        Offset(page_size=2, send="Offset", size="Limit", in_body=True),
        [answer(1, 2), answer()],
        [{"Offset": 0, "Limit": 2}, {"Offset": 2, "Limit": 2}],
    ),
    (
        LinkHeader(size="per_page", page_size=1),
        [answer(1, headers={"link": '<https://other.test/nodes?p=2>; rel="next", </x>; rel="last"'}), answer(2)],
        [{"per_page": 1}, {}],
    ),
]


@pytest.mark.parametrize(("paging", "answers", "asked"), CASES)
def test_every_page_is_read_once(paging: Paging | None, answers: list[Answer], asked: list[dict[str, Any]]) -> None:
    pages = Pages(answers)

    assert [1, 2] == listed(pages, paging)
    assert asked == pages.asked


def test_a_listing_that_leads_in_a_circle_is_not_understood() -> None:
    with pytest.raises(ProtocolMismatch):
        listed(Pages([answer(1, next="a"), answer(2, next="b"), answer(3, next="a")]), Cursor("cursor", at="next"))


@pytest.mark.parametrize("body", [None, {}, {"items": "text"}, {"items": {"a": 1}}])
def test_an_answer_without_a_list_is_never_an_empty_one(body: Any) -> None:
    with pytest.raises(ProtocolMismatch):
        listed(Pages([Answer(200, {}, body)]), None)


def test_a_search_without_pages_is_read_on_from_where_it_ended() -> None:
    prices = [[{"price": 1}, {"price": 2}], [{"price": 2}, {"price": 3}], [{"price": 3}]]
    pages = Pages([Answer(200, {}, {"items": page}) for page in prices])

    assert [1, 2, 2, 3, 3] == [item["price"] for item in listed(pages, Rising("price", 2)) if isinstance(item, dict)]
    assert [{}, {"price": {"gte": 2}}, {"price": {"gte": 3}}] == pages.asked


def test_a_search_without_pages_ends_where_nothing_leads_on_or_enough_was_read() -> None:
    def same() -> Pages:
        return Pages([Answer(200, {}, {"items": [{"price": 1}, {"price": 1}]}) for _ in range(9)])

    stuck, cut = same(), same()
    listed(stuck, Rising("price", 2))
    listed(cut, Rising("price", 2, most_pages=1))

    assert (2, 1) == (len(stuck.asked), len(cut.asked))


class Expiring(Pages):
    """Refuses every page but the first of each reading, so many times."""

    def __init__(self, answers: Sequence[Answer], times: int) -> None:
        super().__init__(answers)
        self._times = times

    async def send(self, call: Call) -> Answer:
        if "cursor" in call.query and self._times:
            self._times -= 1
            raise NotFound(Failure("acme", "list nodes", "too old", 410))
        return await super().send(call)


def test_a_listing_whose_pages_expired_is_read_again_and_nothing_comes_twice() -> None:
    paging = Cursor("cursor", at="next", expires=True)
    first = answer(1, next="b")

    assert [1, 2] == listed(Expiring([first, first, answer(2)], times=1), paging)
    with pytest.raises(Unavailable):
        listed(Expiring([first] * 3, times=9), paging)
    with pytest.raises(NotFound):
        listed(Expiring([first], times=1), Cursor("cursor", at="next"))


def test_an_absence_is_no_expiry() -> None:
    class Absent(Pages):
        async def send(self, call: Call) -> Answer:
            raise NotFound(Failure("acme", "list nodes", "no such namespace", 404))

    with pytest.raises(NotFound):
        listed(Absent([]), Cursor("cursor", at="next", expires=True))
