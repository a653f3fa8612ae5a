"""The state on a server that speaks Terraform's HTTP protocol: GET, POST, LOCK, UNLOCK; such servers exist already.

The protocol knows one document and no append: every write sends all of it, which group commit makes bearable. It knows
no lease and no fence either: both are in the document, and what keeps a stalled run out is that the server refuses a
document whose `?ID=` is not that of the lock. A server that does not is found out when a state begins there.

A document that was sent and not answered may still arrive, behind the next one. So it is not simply sent again: the
lock is taken anew first, under another id, and the late one is refused. Where nobody holds a lock some servers take any
document; so the lock is kept until such a one can hardly come any more.
"""

import asyncio
import base64
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from pydantic import BaseModel, Field

from gpuplan import __version__
from gpuplan.core.ports import Stored
from gpuplan.core.state import Entry, LockInfo, State
from gpuplan.net.exchange import Lost, NeverSent, Outgoing, Response, Wire
from gpuplan.state.backends.http_document import (
    HttpDocument,
    ServerLock,
    decode_document,
    decode_terraform_lock,
    encode_document,
    encode_terraform_lock,
)
from gpuplan.state.backends.options import BackendOptions, Seconds, query_in, query_of
from gpuplan.state.codec import encode_state
from gpuplan.state.lock import is_dead, lock_request, locked, lost, no_such_lock
from gpuplan.state.registry import BackendType, Opening
from gpuplan.state.stale import check_base, check_successor
from gpuplan.state.stored import StateUnreachable, continued, refused, stored_of, unreachable
from gpuplan.state.wal import Framing

_ATTEMPTS = 4
_PAUSE_SECONDS = 0.1
_WORKSPACE = "{workspace}"
_DEFAULT_WORKSPACE = "default"
_LOCKED = (409, 423)
_PASSING = (429, 500, 502, 503, 504)
_PREFIX = "GPUPLAN_HTTP_"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_ADDRESS = r"^https?://[^?#@\s]+$"


class Options(BackendOptions):
    address: str = Field(pattern=_ADDRESS, description="of the document; `{workspace}` in it stands for the name")
    lock_address: str | None = Field(None, pattern=_ADDRESS, description="default: `address`")
    unlock_address: str | None = Field(None, pattern=_ADDRESS, description="default: `lock_address`")
    lock_method: str = "LOCK"
    unlock_method: str = "UNLOCK"
    update_method: str = "POST"
    timeout: Seconds = 30.0


class HttpBackend:
    """One workspace's document."""

    def __init__(self, options: Options, opening: Opening, wire: Wire) -> None:
        self._options = options
        self._clock = opening.clock
        self._wire = wire
        self._headers = {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": f"gpuplan/{__version__}",
            **_authorization(opening.environ),
        }
        self._address, self._lock_address, self._unlock_address = _addresses(options, opening.workspace)
        self._known: tuple[HttpDocument, str] | None = None
        """The document as this run wrote it last, and the id of the lock it wrote it under."""
        self._framing: Framing | None = None
        self._lock: ServerLock | None = None
        self._late_until = 0.0
        """Until when a document that was not answered may still arrive."""
        self._one_write = asyncio.Lock()

    @property
    def location(self) -> str:
        return self._address

    async def load(self) -> Stored:
        document = await self._get()
        if document is None:
            return Stored(None, ())
        return stored_of(document.snapshot, document.journal, self.location)

    async def lock(self, request: LockInfo) -> LockInfo:
        wanted = ServerLock(request.id, request)
        holder = await self._take(wanted)
        if holder is not None and is_dead(holder.info, self._clock.now()):
            await self._release(holder)
            holder = await self._take(wanted)
        if holder is not None:
            raise locked(holder.info)
        self._lock = wanted
        try:
            return await self._enter(request)
        except BaseException:
            # Also when interrupted: a lock that nobody uses would only be in the way.
            await self._release(self._lock)
            raise

    async def renew(self, held: LockInfo) -> LockInfo:
        await self._write(held, lambda document: replace(document, lock=held))
        return held

    async def unlock(self, held: LockInfo) -> None:
        self._known = self._framing = None
        if (wait := self._late_until - self._clock.monotonic()) > 0:
            await self._clock.sleep(wait)
        if not await self._release(self._lock_of(held)):
            holder = await self._holder()
            raise lost(held, _info(holder))

    async def holder(self) -> LockInfo | None:
        return _info(await self._holder())

    async def break_lock(self, lock_id: str) -> None:
        holder = await self._holder()
        if holder is None or holder.info.id != lock_id:
            raise no_such_lock(self.location, _info(holder))
        await self._release(holder)

    async def append(self, entries: Sequence[Entry], *, base: State, held: LockInfo) -> None:
        if not entries:
            return

        def appended(document: HttpDocument) -> HttpDocument:
            check_base(base.lineage, base.serial, document.stored)
            content = document.journal or b""
            if self._framing is None:
                self._framing, content = continued(base, content, self.location)
            return replace(document, journal=content + self._framing.frame(entries))

        await self._write(held, appended)

    async def commit(self, state: State, *, held: LockInfo) -> None:
        def committed(document: HttpDocument) -> HttpDocument:
            check_successor(state, document.stored)
            return replace(
                document, lineage=state.lineage, serial=state.serial, snapshot=encode_state(state), journal=None
            )

        await self._write(held, committed)
        self._framing = None

    async def discard(self, *, held: LockInfo) -> None:
        await self._write(held, lambda document: replace(document, lineage="", serial=0, snapshot=None, journal=None))
        self._framing = None

    async def history(self) -> Sequence[int]:
        """None: a server that keeps earlier documents does so in its own way."""
        return ()

    async def close(self) -> None:
        await self._wire.close()

    async def _enter(self, request: LockInfo) -> LockInfo:
        """The first write under a new lock: its fence and its lease."""
        document = await self._get()
        if document is None:
            document = HttpDocument(self._clock.token())
            await self._check_guarded(document)
        held = replace(request, fence=document.fence + 1)
        self._known, self._framing = (document, held.id), None
        await self._write(held, lambda found: replace(found, fence=held.fence, lock=held))
        return held

    async def _check_guarded(self, document: HttpDocument) -> None:
        """Once in the life of a state, under a lock: writing without it has to be refused.

        It is asked once: nothing is there yet that a late attempt could destroy, as long as nothing follows it.
        """
        stranger, content = self._with_id(self._clock.token()), encode_document(document)
        answer = await self._exchange(Outgoing(self._options.update_method, stranger, self._headers, content), 0)
        if answer.status < 300:
            raise refused(
                self.location,
                "it takes a document whose `ID` is not that of the lock",
                "two runs could overwrite each other there: use a server that compares the two",
            )

    async def _write(self, held: LockInfo, change: Callable[[HttpDocument], HttpDocument]) -> None:
        async with self._one_write:
            document = await self._document(held)
            # Until it is acknowledged nobody knows what is there.
            self._known = None
            try:
                changed = replace(change(document), writes=document.writes + 1)
            except BaseException:
                self._known = document, held.id
                raise
            framing, self._framing = self._framing, None
            await self._put(held, encode_document(changed))
            self._known, self._framing = (changed, held.id), framing

    async def _put(self, held: LockInfo, content: bytes) -> None:
        for attempt in range(_ATTEMPTS):
            lock = self._lock_of(held)
            outgoing = Outgoing(self._options.update_method, self._with_id(lock.id), self._headers, content)
            try:
                answer = await self._exchange(outgoing, attempt)
            except StateUnreachable:
                self._late_until = self._clock.monotonic() + self._options.timeout
                if attempt == _ATTEMPTS - 1:
                    raise
                await self._take_anew(lock)
                continue
            if answer.status in _LOCKED:
                holder = decode_terraform_lock(answer.content, self._clock.now())
                raise lost(held, _info(holder))
            self._expect(answer, answer.status < 300)
            return

    async def _take_anew(self, lock: ServerLock) -> None:
        """The same lock under another id, so that whatever is still on its way under the old one is refused."""
        run, _, number = lock.id.partition(".")
        self._lock = replace(lock, id=f"{run}.{int(number or 0) + 1}")
        await self._release(lock)
        holder = await self._take(self._lock)
        if holder is not None:
            raise lost(lock.info, holder.info)

    def _lock_of(self, held: LockInfo) -> ServerLock:
        """Our lock as the server has it."""
        if self._lock is not None and self._lock.run == held.id:
            return self._lock
        return ServerLock(held.id, held)

    async def _document(self, held: LockInfo) -> HttpDocument:
        """The document under our lock. Raises StateStale when it was written under another."""
        if self._known is not None and self._known[1] == held.id:
            return self._known[0]
        document = await self._get()
        holder = None if document is None else document.lock
        if document is None or holder is None or (holder.id, document.fence) != (held.id, held.fence):
            raise lost(held, holder)
        return document

    async def _get(self) -> HttpDocument | None:
        answer = await self._send("GET", self._address)
        if answer.status in (204, 404):
            return None
        self._expect(answer, answer.status == 200)
        return decode_document(answer.content, self.location)

    async def _holder(self) -> ServerLock | None:
        # The protocol has no question for it: whoever is refused a lock is told.
        look = lock_request(self._clock, "look")
        probe = ServerLock(look.id, replace(look, expires_at=look.created_at))
        holder = await self._take(probe)
        if holder is None:
            await self._release(probe)
        return holder

    async def _take(self, wanted: ServerLock) -> ServerLock | None:
        """Ask for the lock: None is yes, otherwise who holds it."""
        answer = await self._send(self._options.lock_method, self._lock_address, encode_terraform_lock(wanted))
        if answer.status not in _LOCKED:
            self._expect(answer, answer.status < 300)
            return None
        holder = decode_terraform_lock(answer.content, self._clock.now())
        if holder is None:
            raise refused(
                self.location,
                f"it is locked (status {answer.status}), and the server does not say by whom",
                "wait for that run; a server made for Terraform says who holds the lock",
            )
        if holder.id == wanted.id:
            # Our own, of an attempt whose answer was lost.
            return None
        document = await self._get()
        known = None if document is None else document.lock
        # The document has the lease as it was renewed last.
        return replace(holder, info=known) if known is not None and known.id == holder.run else holder

    async def _release(self, lock: ServerLock) -> bool:
        """Whether the lock was this one."""
        url = f"{self._unlock_address}?{urlencode({'ID': lock.id})}"
        answer = await self._send(self._options.unlock_method, url, encode_terraform_lock(lock))
        if answer.status in (*_LOCKED, 400, 404):
            return False
        self._expect(answer, answer.status < 300)
        return True

    def _with_id(self, lock_id: str) -> str:
        return f"{self._address}?{urlencode({'ID': lock_id})}"

    async def _send(self, method: str, url: str, content: bytes = b"") -> Response:
        """For what leaves the same when it is done twice, or late: looking, and locks with an id of their own."""
        outgoing = Outgoing(method, url, self._headers, content)
        for attempt in range(_ATTEMPTS - 1):
            with suppress(StateUnreachable):
                return await self._exchange(outgoing, attempt)
        return await self._exchange(outgoing, _ATTEMPTS - 1)

    async def _exchange(self, outgoing: Outgoing, attempt: int) -> Response:
        """One attempt, after a pause if it is not the first. Raises StateUnreachable when there is no real answer."""
        if attempt:
            await self._clock.sleep(_PAUSE_SECONDS * 2**attempt)
        try:
            answer = await self._wire.send(outgoing, self._options.timeout)
        except (NeverSent, Lost) as exc:
            raise unreachable(self.location, str(exc)) from exc
        if answer.status in _PASSING:
            raise unreachable(self.location, f"status {answer.status}")
        return answer

    def _expect(self, answer: Response, good: bool) -> None:
        if good:
            return
        said = f"status {answer.status} {' '.join(answer.text[:120].split())}".strip()
        if answer.status in (401, 403):
            raise refused(self.location, said, f"set `{_PREFIX}USERNAME` and `{_PREFIX}PASSWORD`")
        raise refused(self.location, said, "docs/state.md says what the server has to know")


def _info(lock: ServerLock | None) -> LockInfo | None:
    return None if lock is None else lock.info


def _authorization(environ: Mapping[str, str]) -> Mapping[str, str]:
    user, password = environ.get(f"{_PREFIX}USERNAME", ""), environ.get(f"{_PREFIX}PASSWORD", "")
    if not user and not password:
        return {}
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


def _addresses(options: Options, workspace: str) -> tuple[str, str, str]:
    """Of the document, of locking it and of unlocking it."""
    if workspace != _DEFAULT_WORKSPACE and _WORKSPACE not in options.address:
        raise refused(
            options.address,
            f"it is one document, and the workspace is `{workspace}`",
            "put `{workspace}` into the address, where the name belongs",
        )
    lock = options.lock_address or options.address
    found = (options.address, lock, options.unlock_address or lock)
    document, locking, unlocking = (each.replace(_WORKSPACE, quote(workspace)) for each in found)
    return document, locking, unlocking


def _open(options: BaseModel, opening: Opening) -> HttpBackend:
    # The HTTP library is slow to import.
    from gpuplan.net.wire import HttpxWire

    assert isinstance(options, Options)
    parts = urlsplit(options.address)
    is_local = parts.scheme == "http" and parts.hostname in _LOOPBACK
    return HttpBackend(options, opening, HttpxWire(concurrency=2, is_local=is_local))


async def _workspaces(options: BaseModel, opening: Opening) -> tuple[str, ...]:
    """The protocol cannot list what a server has."""
    return ()


def _environ(environ: Mapping[str, str]) -> Mapping[str, str]:
    """As Terraform's `TF_HTTP_ADDRESS` and so on; only where `type: http` asks for them."""
    return {name: environ[variable] for name in Options.model_fields if (variable := _PREFIX + name.upper()) in environ}


def _from_url(url: SplitResult) -> Mapping[str, str]:
    return {"address": f"{url.scheme}://{url.netloc}{url.path}", **query_in(url)}


def _to_url(options: BaseModel) -> str:
    assert isinstance(options, Options)
    return f"{options.address}{query_of(options, 'address')}"


BACKEND = BackendType("http", Options, _open, _workspaces, _from_url, _to_url, _environ)
