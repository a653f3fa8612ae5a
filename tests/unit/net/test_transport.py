"""The layers between an adapter's call and the wire; the far end is a script of responses."""

import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from gpuplan.core.capabilities import RateLimit
from gpuplan.core.errors import (
    AuthFailed,
    NotFound,
    OutcomeUnknown,
    ProtocolMismatch,
    ProviderError,
    RateLimited,
    Unavailable,
)
from gpuplan.core.secret import Redactor, Secret
from gpuplan.net.auth import Bearer, Rotating
from gpuplan.net.exchange import Answer, Call, Lost, NeverSent, Outgoing, Response
from gpuplan.net.limits import Limits
from gpuplan.net.profile import Bucket, Effect, Encoding, Host, HttpProfile, KeyField, KeyHeader
from gpuplan.net.transport import Border, Limiter, Retry
from gpuplan.testing.clock import FakeClock

T = TypeVar("T")
OK = Response(200, {}, b'{"id": 1}')
LIMITED = Response(429, {"retry-after": "3"}, b"")
BROKEN = Response(500, {}, b"")
GARBAGE = Response(200, {}, b"<html>")
KEY = "key-that-nobody-may-see"
PROFILE = HttpProfile(hosts={}, auth=Bearer(), credentials={}, idempotency=KeyHeader("Idempotency-Key"))


class ScriptedWire:
    """Answers from a script, and remembers what was sent and when."""

    def __init__(self, clock: FakeClock, script: Sequence[Response | Lost | NeverSent]) -> None:
        self._clock = clock
        self._script = list(script)
        self.sent: list[Outgoing] = []
        self.times: list[float] = []

    async def send(self, outgoing: Outgoing, timeout_seconds: float) -> Response:
        self.sent.append(outgoing)
        self.times.append(self._clock.monotonic())
        step = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if isinstance(step, Exception):
            raise step
        return step

    @asynccontextmanager
    async def stream(
        self, outgoing: Outgoing, timeout_seconds: float
    ) -> AsyncIterator[tuple[Response, AsyncIterator[str]]]:
        response = await self.send(outgoing, timeout_seconds)

        async def lines() -> AsyncIterator[str]:
            for line in response.text.splitlines():
                yield line

        yield response, lines()

    async def close(self) -> None:
        """Nothing is held open."""


class Stack:
    """The whole transport over a script."""

    def __init__(
        self,
        *script: Response | Lost | NeverSent,
        profile: HttpProfile = PROFILE,
        limits: Limits | None = None,
        concurrency: int = 8,
    ) -> None:
        self.clock = FakeClock()
        self.wire = ScriptedWire(self.clock, script or (OK,))
        self.border = Border(
            self.wire,
            profile,
            provider="acme",
            endpoints={"": "https://acme.test/v1", "jobs": "https://jobs.test"},
            keys={"key": Secret(KEY)},
            clock=self.clock,
            redactor=Redactor([KEY]),
        )
        self._make_limits = limits or Limits(None, ())
        self._concurrency = concurrency

    def run(self, *calls: Call) -> list[Answer]:
        import asyncio

        async def main() -> list[Answer]:
            limiter = Limiter(self.border, self.clock, self._make_limits, self._concurrency)
            retry = Retry(limiter, self.clock, PROFILE.retries)
            return list(await asyncio.gather(*(retry.send(call) for call in calls)))

        return self.clock.run(main())

    def error(self, call: Call) -> ProviderError:
        with pytest.raises(ProviderError) as caught:
            self.run(call)
        return caught.value


def call(effect: Effect = Effect.NONE, **more: Any) -> Call:
    return Call(**{"method": "GET", "route": "/nodes", "path": "/nodes", "to": "list nodes", "effect": effect, **more})


READ, REPEATABLE, ONCE = call(), call(Effect.REPEATABLE), call(Effect.ONCE)
KEYED = call(Effect.ONCE, method="POST", key="token", body={"name": "x"})


@pytest.mark.parametrize("failure", [Lost("broke"), NeverSent("refused"), BROKEN, GARBAGE, LIMITED])
@pytest.mark.parametrize("sent", [READ, REPEATABLE, KEYED])
def test_what_may_be_repeated_survives_one_failure(sent: Call, failure: Any) -> None:
    stack = Stack(failure, OK)

    assert [{"id": 1}] == [answer.body for answer in stack.run(sent)]
    assert 2 == len(stack.wire.sent)


@pytest.mark.parametrize(
    ("failure", "error"),
    [(Lost("broke"), OutcomeUnknown), (BROKEN, OutcomeUnknown), (GARBAGE, ProtocolMismatch)],
)
def test_an_effect_whose_outcome_is_unknown_is_sent_once(failure: Any, error: type[ProviderError]) -> None:
    stack = Stack(failure, OK)

    assert error is type(stack.error(ONCE))
    assert 1 == len(stack.wire.sent)


@pytest.mark.parametrize("failure", [NeverSent("refused"), LIMITED])
def test_an_effect_that_certainly_did_not_happen_is_sent_again(failure: Any) -> None:
    stack = Stack(failure, OK)

    stack.run(ONCE)

    assert 2 == len(stack.wire.sent)


@pytest.mark.parametrize("later", [NeverSent("refused"), LIMITED, Response(409, {}, b""), Response(403, {}, b"")])
def test_a_doubt_is_not_dispelled_by_a_later_refusal(later: Any) -> None:
    assert OutcomeUnknown is type(Stack(Lost("broke"), later).error(KEYED))


def test_a_delete_in_doubt_is_settled_by_absence() -> None:
    assert NotFound is type(Stack(Lost("broke"), Response(404, {}, b"")).error(REPEATABLE))


def test_a_read_that_never_gets_through_could_not_tell() -> None:
    stack = Stack(Lost("broke"))

    assert Unavailable is type(stack.error(READ))
    assert PROFILE.retries.attempts == len(stack.wire.sent)


def test_the_pause_the_provider_asks_for_is_kept() -> None:
    stack = Stack(LIMITED, OK)

    stack.run(READ)

    assert 3 <= stack.wire.times[1] <= 3 + PROFILE.retries.base_seconds


def test_a_pause_beyond_all_patience_is_passed_on() -> None:
    stack = Stack(Response(429, {"retry-after": "86400"}, b""))

    error = stack.error(READ)

    assert isinstance(error, RateLimited)
    assert 86400 == error.retry_after_seconds
    assert 1 == len(stack.wire.sent)


def test_one_who_is_throttled_holds_the_others_back() -> None:
    stack = Stack(LIMITED, OK)

    stack.run(READ, *[READ] * 3)

    assert all(time >= 3 for time in stack.wire.times[4:])


def test_pauses_between_attempts_grow_and_differ() -> None:
    stack = Stack(Lost("broke"))
    stack.error(READ)

    pauses = [late - early for early, late in zip(stack.wire.times, stack.wire.times[1:], strict=False)]
    assert len(set(pauses)) == len(pauses)
    assert all(pause <= 0.5 * 2**index for index, pause in enumerate(pauses))


def test_an_account_stays_within_its_rate() -> None:
    stack = Stack(limits=Limits(RateLimit(5, 1.0), ()))
    stack.run(*[READ] * 50)

    times = stack.wire.times
    assert all(late - early >= 1.0 - 1e-9 for early, late in zip(times, times[5:], strict=False))
    assert times[-1] <= 9.0 + 1e-9


def test_a_slow_route_does_not_hold_back_the_others() -> None:
    limits = Limits(RateLimit(1, 1.0), (Bucket(RateLimit(1, 12.0), "POST", "/launch"),))
    stack = Stack(limits=limits)
    launch = call(Effect.ONCE, method="POST", route="/launch", path="/launch")

    stack.run(*[launch] * 5, READ)

    assert stack.wire.times[1] <= 2.0
    assert 48.0 <= stack.wire.times[-1] <= 50.0


def test_every_attempt_is_signed_and_says_what_it_sends() -> None:
    stack = Stack(LIMITED, OK)
    stack.run(
        call(
            Effect.ONCE, method="POST", path="/nodes", body={"name": "é"}, query={"a": ["x", "y"], "b": True, "c": None}
        )
    )

    for sent in stack.wire.sent:
        assert f"Bearer {KEY}" == sent.headers["Authorization"]
        assert "application/json" == sent.headers["Content-Type"]
        assert {"name": "é"} == json.loads(sent.content)
        assert "https://acme.test/v1/nodes?a=x&a=y&b=true" == sent.url


def test_a_key_goes_out_with_every_attempt_of_a_create() -> None:
    stack = Stack(Lost("broke"), OK)
    stack.run(KEYED)

    assert ["token", "token"] == [sent.headers["Idempotency-Key"] for sent in stack.wire.sent]


def test_a_key_may_be_a_field_of_the_body() -> None:
    profile = HttpProfile(hosts={}, auth=Bearer(), credentials={}, idempotency=KeyField("ClientToken"))
    stack = Stack(OK, profile=profile)
    stack.run(KEYED)

    assert {"name": "x", "ClientToken": "token"} == json.loads(stack.wire.sent[0].content)


def test_a_body_may_be_a_form() -> None:
    stack = Stack(OK, profile=HttpProfile(hosts={}, auth=Bearer(), credentials={}, encoding=Encoding.FORM))
    stack.run(call(Effect.ONCE, body={"a": "1 2", "b": None}))

    assert b"a=1+2" == stack.wire.sent[0].content


def test_an_action_goes_into_a_header_of_the_one_address() -> None:
    stack = Stack(OK, profile=HttpProfile(hosts={}, auth=Bearer(), credentials={}, action_header="X-Action"))
    stack.run(call(method="POST", route="/RunInstances", path="/RunInstances"))

    (sent,) = stack.wire.sent
    assert ("RunInstances", "https://acme.test/v1/") == (sent.headers["X-Action"], sent.url)


def test_another_host_gets_the_call_and_a_stranger_gets_no_key() -> None:
    stack = Stack(OK)
    stack.run(call(host="jobs"), call(path="https://files.test/log", plain=True))

    assert ["https://jobs.test/nodes", "https://files.test/log"] == [sent.url for sent in stack.wire.sent]
    assert "Authorization" not in stack.wire.sent[1].headers


def test_a_host_of_somebody_else_gets_no_key() -> None:
    hosts = {"jobs": Host("https://jobs.test", is_open=True)}
    stack = Stack(OK, profile=HttpProfile(hosts=hosts, auth=Bearer(), credentials={}))
    stack.run(call(host="jobs"), call())

    assert [False, True] == ["Authorization" in sent.headers for sent in stack.wire.sent]


def test_an_envelope_is_taken_off_and_secrets_are_taken_out() -> None:
    profile = HttpProfile(
        hosts={}, auth=Bearer(), credentials={}, envelope="data", secret_fields=frozenset({"password"})
    )
    stack = Stack(Response(200, {}, b'{"data": [{"id": 1, "password": "hunter22"}]}'), profile=profile)

    assert [{"id": 1}] == stack.run(READ)[0].body


def test_an_error_that_quotes_the_key_does_not_show_it() -> None:
    error = Stack(Response(401, {}, f'{{"message": "bad key {KEY}"}}'.encode())).error(READ)

    assert KEY not in repr(error.diagnostics)
    assert "bad key ********" == error.failure.message


def test_the_log_has_routes_and_no_ids_or_keys(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="gpuplan.net"):
        Stack(BROKEN, Response(200, {"x-request-id": "r-7"}, b"{}")).run(
            call(route="/nodes/{id}", path="/nodes/abc123")
        )

    lines = [record.getMessage() for record in caplog.records]
    assert ["acme: GET /nodes/{id}: 500, 0 ms", "acme: GET /nodes/{id}: 200, 0 ms, request r-7"] == lines


def rotating(*values: str | None) -> tuple[HttpProfile, list[str | None]]:
    """A profile whose proof is what comes first of these; making it anew takes it away."""
    left = list(values)

    def renew() -> bool:
        left.pop(0)
        return True

    return replace(PROFILE, auth=Rotating(lambda: left[0], renew, Redactor())), left


def test_a_proof_that_is_not_accepted_is_made_anew_once() -> None:
    profile, left = rotating("Bearer old-token", "Bearer new-token", "Bearer newer-token")
    refused = Response(401, {}, b"")
    stack = Stack(refused, OK, profile=profile)
    stack.run(call(Effect.ONCE))

    assert ["Bearer old-token", "Bearer new-token"] == [sent.headers["Authorization"] for sent in stack.wire.sent]
    assert isinstance(Stack(refused, refused, profile=profile).error(call()), AuthFailed)
    assert ["Bearer newer-token"] == left


def test_without_a_proof_nothing_is_said_of_one() -> None:
    stack = Stack(profile=rotating(None)[0])
    stack.run(call())

    assert "Authorization" not in stack.wire.sent[0].headers


def test_a_call_may_say_itself_what_its_body_is() -> None:
    stack = Stack()
    stack.run(call(body={"a": 1}, headers={"Content-Type": "application/apply-patch+yaml"}), call(body={"a": 1}))

    assert ["application/apply-patch+yaml", "application/json"] == [
        sent.headers["Content-Type"] for sent in stack.wire.sent
    ]


def test_a_wire_without_sockets_has_sent_nothing() -> None:
    stack = Stack()

    async def ask() -> None:
        async with stack.border.socket(call(Effect.ONCE), ("v1",)):
            raise AssertionError("there is none")

    with pytest.raises(Unavailable):
        stack.clock.run(ask())

    assert [] == stack.wire.sent
