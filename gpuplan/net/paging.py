"""Walk the pages of a listing, by any of the ways providers split them. Called by `api` alone."""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace

from gpuplan.core.errors import Failure, NotFound, ProtocolMismatch, Unavailable
from gpuplan.core.values import JsonValue
from gpuplan.net.exchange import Answer, Call, Sender
from gpuplan.net.payload import dig
from gpuplan.net.profile import Cursor, LinkHeader, Numbered, Offset, Paging, Rising

_GONE = 410
_READINGS = 3
_NEXT = re.compile(r"<([^>]*)>\s*;[^,]*\brel=\"?next\"?")


async def walk(
    sender: Sender, call: Call, paging: Paging | None, items: str, provider: str
) -> AsyncIterator[JsonValue]:
    """The items of every page. Raises ProtocolMismatch for a page that was there before, or that has no items."""
    if isinstance(paging, Cursor) and paging.expires:
        for item in await _whole(sender, call, paging, items, provider):
            yield item
        return
    async for item in _once(sender, call, paging, items, provider):
        yield item


async def _whole(sender: Sender, call: Call, paging: Cursor, items: str, provider: str) -> Sequence[JsonValue]:
    """A listing whose pages all belong together. Raises Unavailable when it grows old again and again."""
    for _ in range(_READINGS):
        found: list[JsonValue] = []
        try:
            async for item in _once(sender, call, paging, items, provider):
                found.append(item)
            return found
        except NotFound as error:
            if error.failure.status != _GONE:
                raise
    raise Unavailable(Failure(provider, call.to, "its pages expire faster than they can be read", _GONE))


async def _once(
    sender: Sender, call: Call, paging: Paging | None, items: str, provider: str
) -> AsyncIterator[JsonValue]:
    page: Call | None = _sized(call, paging)
    walked: set[str] = set()
    seen = 0
    while page is not None:
        if (where := f"{page.path} {page.query} {page.body}") in walked:
            raise ProtocolMismatch(Failure(provider, call.to, "the listing leads back to a page it had before"))
        walked.add(where)
        answer = await sender.send(page)
        found = dig(answer.body, items)
        if not isinstance(found, Sequence) or isinstance(found, str):
            raise ProtocolMismatch(Failure(provider, call.to, f"the listing has no `{items}`", answer.status))
        for item in found:
            yield item
        seen += len(found)
        page = _next(page, paging, answer, seen, found)


def _sized(call: Call, paging: Paging | None) -> Call:
    match paging:
        case None:
            return call
        case Numbered(send=send, first=first):
            return _with(call, paging, {send: first, paging.size: paging.page_size})
        case Offset(send=send):
            return _with(call, paging, {send: 0, paging.size: paging.page_size})
        case Cursor() | LinkHeader():
            return _with(call, paging, {paging.size: paging.page_size})
        case Rising():
            return call


def _next(page: Call, paging: Paging | None, answer: Answer, seen: int, items: Sequence[JsonValue]) -> Call | None:
    """The call for the page after this one, which had `items`; `seen` counts all so far."""
    found = len(items)
    match paging:
        case None:
            return None
        case Cursor(send=send, at=at, more=more):
            following = dig(answer.body, at)
            is_last = not following or (more and dig(answer.body, more) is not True)
            return None if is_last else _with(page, paging, {send: str(following)})
        case Numbered(send=send, at=at, page_size=size):
            if at:
                number = dig(answer.body, at)
                return _with(page, paging, {send: number}) if isinstance(number, int) and number else None
            return _with(page, paging, {send: _current(page, paging) + 1}) if found >= size else None
        case Offset(send=send, page_size=size, total=total):
            count = dig(answer.body, total) if total else None
            is_last = seen >= count if isinstance(count, int) else found < size
            return None if is_last or not found else _with(page, paging, {send: seen})
        case LinkHeader():
            link = _NEXT.search(answer.headers.get("link", ""))
            return replace(page, path=_same_host(link[1]), query={}) if link else None
        case Rising(page_size=size, most_pages=most):
            is_last = found < size or seen >= size * most
            return None if is_last else _from(page, paging, dig(items[-1], paging.column))


def _from(page: Call, paging: Rising, value: JsonValue) -> Call | None:
    """The search again, beginning with a value; None where a whole page had that one alone, and nothing leads on."""
    body = page.body if isinstance(page.body, Mapping) else {}
    bound: JsonValue = {paging.from_operator: value}
    return (
        None
        if value is None or body.get(paging.column) == bound
        else replace(page, body={**body, paging.column: bound})
    )


def _with(call: Call, paging: Paging, parameters: Mapping[str, str | int]) -> Call:
    given = {name: value for name, value in parameters.items() if name}
    if isinstance(paging, (LinkHeader, Rising)) or not paging.in_body:
        return replace(call, query={**call.query, **given})
    return replace(call, body={**(call.body if isinstance(call.body, Mapping) else {}), **given})


def _current(page: Call, paging: Numbered) -> int:
    place = page.body if paging.in_body and isinstance(page.body, Mapping) else page.query
    number = place.get(paging.send)
    return number if isinstance(number, int) else paging.first


def _same_host(url: str) -> str:
    """Path and parameters alone: the next page is asked of the host we know, with the key it is for."""
    return re.sub(r"^https?://[^/]*", "", url)
