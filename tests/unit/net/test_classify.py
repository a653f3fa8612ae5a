from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gpuplan.core.errors import (
    AuthFailed,
    Conflict,
    InvalidRequest,
    NoCapacity,
    NotFound,
    OutcomeUnknown,
    ProtocolMismatch,
    ProviderError,
    QuotaExceeded,
    RateLimited,
    Unavailable,
)
from gpuplan.net.auth import Nobody
from gpuplan.net.classify import error_of, read_error, retry_after
from gpuplan.net.exchange import Call, Response
from gpuplan.net.profile import AfterBody, AfterHeader, AfterText, Effect, HttpProfile, RetryAfter, Rule, Unit

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
PROFILE = HttpProfile(
    hosts={},
    auth=Nobody(),
    credentials={},
    error_code=("error.code", "code"),
    error_message=("error.message", "message", "error", "detail"),
    rules=(
        Rule(NoCapacity, status=(400, 503), message="no .* available", effects=(Effect.ONCE,)),
        Rule(NotFound, code="no_such_.*"),
        Rule(Conflict, status=500, message="locked", hint="wait"),
    ),
)


def call(effect: Effect = Effect.NONE) -> Call:
    return Call("GET", "/nodes", "/nodes", "list nodes", effect)


def response(status: int, text: str = "", **headers: str) -> Response:
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, text.encode())


@pytest.mark.parametrize(
    ("status", "read", "effect"),
    [
        (400, InvalidRequest, InvalidRequest),
        (401, AuthFailed, AuthFailed),
        (402, QuotaExceeded, QuotaExceeded),
        (403, AuthFailed, AuthFailed),
        (404, NotFound, NotFound),
        (408, Unavailable, OutcomeUnknown),
        (409, Conflict, Conflict),
        (410, NotFound, NotFound),
        (422, InvalidRequest, InvalidRequest),
        (423, Conflict, Conflict),
        (429, RateLimited, RateLimited),
        (500, Unavailable, OutcomeUnknown),
        (502, Unavailable, OutcomeUnknown),
        (503, Unavailable, OutcomeUnknown),
        (504, Unavailable, OutcomeUnknown),
        (524, Unavailable, OutcomeUnknown),
        (301, ProtocolMismatch, ProtocolMismatch),
    ],
)
def test_a_status_says_whether_it_happened(status: int, read: type[ProviderError], effect: type[ProviderError]) -> None:
    plain = HttpProfile(hosts={}, auth=Nobody(), credentials={})

    assert read is type(error_of(plain, call(), response(status), "acme", NOW))
    assert effect is type(error_of(plain, call(Effect.ONCE), response(status), "acme", NOW))
    assert effect is type(error_of(plain, call(Effect.REPEATABLE), response(status), "acme", NOW))


def test_the_first_rule_that_matches_decides() -> None:
    body = '{"error": "No servers available"}'

    assert NoCapacity is type(error_of(PROFILE, call(Effect.ONCE), response(503, body), "acme", NOW))
    assert Unavailable is type(error_of(PROFILE, call(), response(503, body), "acme", NOW))


def test_a_rule_may_need_to_be_told_when_to_come_back() -> None:
    profile = replace(PROFILE, rules=(Rule(RateLimited, status=503, says_when=True),))
    errors = [
        error_of(profile, call(), response(503, **headers), "acme", NOW) for headers in ({}, {"retry_after": "7"})
    ]

    assert [Unavailable, RateLimited] == [type(error) for error in errors]
    assert 7 == getattr(errors[1], "retry_after_seconds", None)


def test_a_code_decides_before_the_status() -> None:
    body = '{"error": {"code": "no_such_node", "message": "gone"}}'

    error = error_of(PROFILE, call(), response(400, body, x_request_id="r-1"), "acme", NOW)

    assert isinstance(error, NotFound)
    assert ("no_such_node", "gone", "r-1", 400) == (
        error.failure.code,
        error.failure.message,
        error.failure.request_id,
        error.failure.status,
    )


def test_a_success_that_says_it_failed_is_an_error() -> None:
    profile = HttpProfile(
        hosts={},
        auth=Nobody(),
        credentials={},
        is_error=lambda body: isinstance(body, dict) and body.get("ok") is False,
    )

    assert error_of(profile, call(), response(200, '{"ok": true}'), "acme", NOW) is None
    assert InvalidRequest is type(error_of(profile, call(), response(200, '{"ok": false}'), "acme", NOW))


def test_an_object_that_exists_all_the_same_is_named() -> None:
    profile = HttpProfile(hosts={}, auth=Nobody(), credentials={}, leftover="new_contract")

    error = error_of(profile, call(), response(500, '{"new_contract": 17}'), "acme", NOW)

    assert error is not None
    assert "17" == error.failure.leftover


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"error": {"message": "plain"}}', "plain"),
        ('[{"error": "in a list"}]', "in a list"),
        ('"{\\"error\\": \\"encoded twice\\"}"', "encoded twice"),
        ('{"detail": ["one", "two"]}', "one; two"),
        ('{"message": {"message": "an object"}}', "an object"),
        ("<html><title>502 Bad\nGateway</title><body>x</body></html>", "502 Bad Gateway"),
        ("<p>no title</p>", "no title"),
        ("just text", "just text"),
        ('{"unknown": "shape"}', '{"unknown": "shape"}'),
        ("", ""),
    ],
)
def test_a_message_is_found_in_any_form(text: str, message: str) -> None:
    assert message == read_error(PROFILE, response(400, text)).message


@pytest.mark.parametrize(
    ("forms", "answer", "seconds"),
    [
        ((AfterHeader(),), response(429, retry_after="7"), 7),
        ((AfterHeader(),), response(429, retry_after="Tue, 24 Nov 2026 12:00:30 GMT"), 30),
        ((AfterHeader(),), response(429, retry_after="Tue, 24 Nov 2026 11:00:00 GMT"), 0),
        ((AfterHeader("x-after", Unit.MILLISECONDS),), response(429, x_after="1500"), 1.5),
        ((AfterHeader("reset", Unit.EPOCH),), response(429, reset=str(NOW.timestamp() + 9)), 9),
        ((AfterBody("retry_after"),), response(429, '{"retry_after": 4}'), 4),
        ((AfterText(r"threshold=([\d.]+)"),), response(429, "too frequent threshold=4.5"), 4.5),
        ((AfterHeader(), AfterBody("wait")), response(429, '{"wait": 3}'), 3),
        ((AfterHeader(),), response(429), None),
        ((AfterHeader(),), response(429, retry_after="soon"), None),
    ],
)
def test_a_pause_is_read_in_any_form(forms: tuple[RetryAfter, ...], answer: Response, seconds: float | None) -> None:
    assert seconds == retry_after(forms, answer, read_error(PROFILE, answer), NOW)
