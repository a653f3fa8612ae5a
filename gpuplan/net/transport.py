"""The layers between an adapter's call and the wire: `Retry` over `Limiter` over `Border`.

`Border` turns a call into a request, signs it, and what comes back into an answer or into an error of ours. `Limiter`
keeps an account within its limits. `Retry` repeats what may be repeated. Put together by `http_provider`.
"""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import urlencode

from gpuplan import __version__
from gpuplan.core.errors import (
    Failure,
    NotFound,
    OutcomeUnknown,
    ProtocolMismatch,
    ProviderError,
    RateLimited,
    Unavailable,
)
from gpuplan.core.ports import Clock
from gpuplan.core.secret import Redactor, Secret
from gpuplan.core.values import JsonValue
from gpuplan.net.auth import Renewable, Signing
from gpuplan.net.classify import error_of, request_id
from gpuplan.net.exchange import (
    Answer,
    Call,
    Lost,
    NeverSent,
    Outgoing,
    Query,
    Response,
    Sender,
    Socket,
    SocketWire,
    Wire,
)
from gpuplan.net.limits import Limits, Window
from gpuplan.net.payload import dig
from gpuplan.net.profile import Effect, Encoding, HttpProfile, KeyField, KeyHeader, Retries

LOG = logging.getLogger("gpuplan.net")
UNAUTHORIZED = 401


class Retry:
    """Repeats a call that certainly did nothing, or that does no more when it is sent twice.

    Once an effect is in doubt it stays so: a later refusal says nothing about the earlier attempt.
    """

    def __init__(self, below: Sender, clock: Clock, retries: Retries) -> None:
        self._below = below
        self._clock = clock
        self._retries = retries

    async def send(self, call: Call) -> Answer:
        doubt: ProviderError | None = None
        for attempt in range(1, self._retries.attempts + 1):
            try:
                return await self._below.send(call)
            except ProviderError as error:
                if _is_doubtful(error, call):
                    doubt = doubt or error
                pause = self._pause(error, call, attempt)
                if pause is None:
                    raise _final(error, doubt) from error.__cause__
            await self._clock.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _pause(self, error: ProviderError, call: Call, attempt: int) -> float | None:
        """Seconds until the next attempt; None: there is none."""
        if attempt == self._retries.attempts or not _may_repeat(error, call):
            return None
        most = min(self._retries.most_seconds, self._retries.base_seconds * float(2 ** (attempt - 1)))
        jitter = most * self._clock.jitter()
        asked = error.retry_after_seconds if isinstance(error, RateLimited) else None
        if asked is None:
            return jitter
        return None if asked > self._retries.patience_seconds else asked + jitter


class Limiter:
    """Lets calls go as fast as the account may, and no faster."""

    def __init__(self, below: Sender, clock: Clock, limits: Limits, concurrency: int) -> None:
        self._below = below
        self._clock = clock
        self._limits = limits
        self._slots = asyncio.Semaphore(concurrency)

    async def send(self, call: Call) -> Answer:
        windows = self._limits.of(call)
        for window in windows:
            await self._pass(window)
        async with self._slots:
            try:
                return await self._below.send(call)
            except RateLimited as error:
                # The narrowest window is what the provider complained about.
                windows[0].hold(self._clock.monotonic() + (error.retry_after_seconds or 0))
                raise

    async def _pass(self, window: Window) -> None:
        turn = window.reserve(self._clock.monotonic())
        while (wait := turn - self._clock.monotonic()) > 0:
            await self._clock.sleep(wait)
            if window.is_held(now := self._clock.monotonic()):
                turn = window.reserve(now)


class Border:
    """Where calls become requests and responses become answers; nothing above has heard of HTTP."""

    def __init__(
        self,
        wire: Wire,
        profile: HttpProfile,
        *,
        provider: str,
        endpoints: Mapping[str, str],
        keys: Mapping[str, Secret],
        clock: Clock,
        redactor: Redactor,
        timeout_seconds: float | None = None,
    ) -> None:
        self._wire = wire
        self._profile = profile
        self._provider = provider
        self._endpoints = endpoints
        self._keys = keys
        self._clock = clock
        self._redactor = redactor
        self._timeout_seconds = timeout_seconds

    async def send(self, call: Call) -> Answer:
        response = await self._answered(call)
        auth = self._profile.auth
        if response.status == UNAUTHORIZED and isinstance(auth, Renewable) and await auth.renew():
            # It was not even looked at: sending it again is no repetition.
            response = await self._answered(call)
        self._refuse(call, response)
        return Answer(response.status, response.headers, self._body(call, response))

    async def _answered(self, call: Call) -> Response:
        begun = self._clock.monotonic()
        outgoing = await self._outgoing(call)
        try:
            response = await self._wire.send(outgoing, self._timeout(call))
        except (NeverSent, Lost) as exc:
            self._log(call, begun, str(exc))
            raise self._no_answer(call, exc) from exc
        self._log(call, begun, str(response.status), request_id(self._profile, response))
        return response

    async def lines(self, call: Call) -> AsyncGenerator[str, None]:
        """The lines of an answer as they come. It is not repeated: whoever reads it knows where it left off."""
        begun = self._clock.monotonic()
        try:
            async with self._wire.stream(await self._outgoing(call), self._timeout(call)) as (response, lines):
                self._log(call, begun, str(response.status), request_id(self._profile, response))
                self._refuse(call, response)
                async for line in lines:
                    yield self._redactor(line)
        except (NeverSent, Lost) as exc:
            raise self._no_answer(call, exc) from exc

    @asynccontextmanager
    async def socket(self, call: Call, protocols: Sequence[str]) -> AsyncIterator[Socket]:
        """A WebSocket. It is not repeated either: what was said over it has been heard."""
        begun = self._clock.monotonic()
        if not isinstance(self._wire, SocketWire):
            raise Unavailable(self._failure(call, "there are no WebSockets on this wire"))
        try:
            async with self._wire.socket(await self._outgoing(call), protocols, self._timeout(call)) as opened:
                if isinstance(opened, Response):
                    self._log(call, begun, str(opened.status), request_id(self._profile, opened))
                    self._refuse(call, opened)
                    raise ProtocolMismatch(self._failure(call, "it opened no WebSocket", opened))
                self._log(call, begun, opened.protocol or "open")
                yield opened
        except (NeverSent, Lost) as exc:
            raise self._no_answer(call, exc) from exc

    async def close(self) -> None:
        await self._wire.close()

    def _timeout(self, call: Call) -> float:
        return call.timeout_seconds or self._timeout_seconds or self._profile.timeouts.of(call.effect)

    async def _outgoing(self, call: Call) -> Outgoing:
        """A fresh, freshly signed request: a repeated call must not carry an old time or nonce."""
        headers = {"Accept": "application/json", "User-Agent": f"gpuplan/{__version__}"}
        headers |= {**self._profile.headers, **call.headers}
        body = call.body
        if call.key and isinstance(self._profile.idempotency, KeyHeader):
            headers[self._profile.idempotency.name] = call.key
        if call.key and isinstance(self._profile.idempotency, KeyField) and isinstance(body, Mapping):
            body = {**body, self._profile.idempotency.name: call.key}
        content = b"" if body is None else _encode(body, self._profile.encoding)
        if body is not None and "Content-Type" not in headers:
            is_json = self._profile.encoding is Encoding.JSON
            headers["Content-Type"] = "application/json" if is_json else "application/x-www-form-urlencoded"
        path = call.path
        if self._profile.action_header and not call.is_absolute:
            headers[self._profile.action_header], path = path.removeprefix("/"), "/"
        url = path if call.is_absolute else self._endpoints[call.host] + path
        outgoing = Outgoing(call.method, _with_query(url, call.query), headers, content)
        host = self._profile.hosts.get(call.host)
        if call.is_absolute or (host is not None and host.is_open):
            return outgoing
        return await self._profile.auth.sign(outgoing, Signing(self._keys, self._clock.now(), self._exchange))

    async def _exchange(self, outgoing: Outgoing) -> Response:
        return await self._wire.send(outgoing, self._profile.timeouts.read)

    def _refuse(self, call: Call, response: Response) -> None:
        """Raise what the response stands for, if it is no success."""
        error = error_of(self._profile, call, response, self._provider, self._clock.now())
        if error is not None:
            # A message may quote what was sent, keys and environment included.
            error.failure = replace(error.failure, message=self._redactor(error.failure.message))
            raise error

    def _body(self, call: Call, response: Response) -> JsonValue:
        if call.plain:
            return response.text
        if not response.content.strip():
            return None
        try:
            body: JsonValue = json.loads(response.content, object_hook=self._without_secrets)
        except ValueError as exc:
            message = f"the answer is not JSON: {self._redactor(' '.join(response.text[:80].split()))}"
            raise ProtocolMismatch(self._failure(call, message, response)) from exc
        return dig(body, self._profile.envelope)

    def _without_secrets(self, item: dict[str, JsonValue]) -> dict[str, JsonValue]:
        for name in self._profile.secret_fields & item.keys():
            if isinstance(value := item.pop(name), str):
                self._redactor.add(value)
        return item

    def _no_answer(self, call: Call, exc: NeverSent | Lost) -> ProviderError:
        in_doubt = isinstance(exc, Lost) and call.effect is not Effect.NONE
        return (OutcomeUnknown if in_doubt else Unavailable)(self._failure(call, self._redactor(str(exc))))

    def _failure(self, call: Call, message: str, response: Response | None = None) -> Failure:
        return Failure(
            self._provider,
            call.to,
            message,
            status=response.status if response else None,
            request_id=request_id(self._profile, response) if response else None,
            gpu=call.gpu or None,
        )

    def _log(self, call: Call, begun: float, outcome: str, request: str | None = None) -> None:
        """One line per attempt, without ids, bodies or headers: fit to be pasted into a public issue."""
        if LOG.isEnabledFor(logging.DEBUG):
            milliseconds = round((self._clock.monotonic() - begun) * 1000)
            line = f"{self._provider}: {call.method} {call.route}: {outcome}, {milliseconds} ms"
            LOG.debug("%s", self._redactor(f"{line}, request {request}" if request else line))


def _may_repeat(error: ProviderError, call: Call) -> bool:
    match error:
        case RateLimited() | Unavailable():
            return True
        case OutcomeUnknown() | ProtocolMismatch():
            return call.is_repeatable
    return False


def _is_doubtful(error: ProviderError, call: Call) -> bool:
    return call.effect is not Effect.NONE and isinstance(error, (OutcomeUnknown, ProtocolMismatch))


def _final(error: ProviderError, doubt: ProviderError | None) -> ProviderError:
    # What is not there any more is the one thing that a second look does prove.
    return error if doubt is None or isinstance(error, NotFound) else doubt


def _encode(body: Mapping[str, JsonValue] | Sequence[JsonValue], encoding: Encoding) -> bytes:
    if encoding is Encoding.FORM and isinstance(body, Mapping):
        return urlencode({name: value for name, value in body.items() if value is not None}).encode()
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def _with_query(url: str, query: Query) -> str:
    pairs = [
        (name, str(item).lower() if isinstance(item, bool) else str(item))
        for name, value in query.items()
        if value is not None
        for item in ((value,) if isinstance(value, (str, int)) else value)
    ]
    return f"{url}{'&' if '?' in url else '?'}{urlencode(pairs)}" if pairs else url
