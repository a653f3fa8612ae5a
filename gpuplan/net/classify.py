"""From a response to an error of ours, or to none: the adapter's rules first, then what HTTP itself says.

What counts is whether it certainly did not happen. Called by `transport` for every response.
"""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache

from gpuplan.core.errors import (
    AuthFailed,
    Conflict,
    Failure,
    InvalidRequest,
    NotFound,
    OutcomeUnknown,
    ProtocolMismatch,
    ProviderError,
    QuotaExceeded,
    RateLimited,
    Unavailable,
    Unsupported,
)
from gpuplan.core.values import JsonValue
from gpuplan.net.exchange import Call, Response
from gpuplan.net.payload import dig
from gpuplan.net.profile import AfterBody, AfterHeader, AfterText, Effect, HttpProfile, RetryAfter, Rule, Unit

MESSAGE_LENGTH = 256
BY_STATUS: Mapping[int, type[ProviderError]] = {
    401: AuthFailed,
    402: QuotaExceeded,
    403: AuthFailed,
    404: NotFound,
    405: Unsupported,
    409: Conflict,
    410: NotFound,
    423: Conflict,
    425: Conflict,
    429: RateLimited,
    501: Unsupported,
}
"""What a status means where no rule says otherwise. Other 4xx are InvalidRequest, 408 and other 5xx leave the outcome
of an effect unknown, and a redirect is not understood: following it could carry the key to a stranger."""


@dataclass(frozen=True, slots=True)
class Said:
    """What an error answer says, whatever its form."""

    code: str = ""
    message: str = ""
    body: JsonValue = None


def error_of(
    profile: HttpProfile, call: Call, response: Response, provider: str, now: datetime
) -> ProviderError | None:
    """The error a response stands for; None for a success. The message is the vendor's, not redacted yet."""
    is_success = 200 <= response.status < 300
    if is_success and profile.is_error is None:
        return None
    said = read_error(profile, response)
    if is_success and (profile.is_error is None or not profile.is_error(said.body)):
        return None
    wait = retry_after(profile.retry_after, response, said, now)
    rule = _first_match(profile.rules, call, response.status, said, says_when=wait is not None)
    error = rule.error if rule else _by_status(response.status, call.effect)
    leftover = dig(said.body, profile.leftover) if profile.leftover else None
    failure = Failure(
        provider=provider,
        operation=call.to,
        message=said.message[:MESSAGE_LENGTH],
        status=response.status,
        code=said.code or None,
        request_id=request_id(profile, response),
        gpu=call.gpu or None,
        hint=rule.hint if rule else None,
        leftover="" if leftover is None else str(leftover),
    )
    if issubclass(error, RateLimited):
        return error(failure, retry_after_seconds=wait)
    return error(failure)


def request_id(profile: HttpProfile, response: Response) -> str | None:
    return next((response.headers[name] for name in profile.request_id if response.headers.get(name)), None)


def read_error(profile: HttpProfile, response: Response) -> Said:
    """Code and message out of JSON, a list of it, JSON inside a text, HTML, or plain text."""
    text = response.text.strip()
    body = _unfold(text)
    if not isinstance(body, Mapping):
        return Said(message=_plain(text), body=body)
    code, message = _first_text(body, profile.error_code), _first_text(body, profile.error_message)
    return Said(code, message or _plain(text), body)


def retry_after(forms: Sequence[RetryAfter], response: Response, said: Said, now: datetime) -> float | None:
    """Seconds the provider asks us to wait; None where it does not say. The first form that is there counts."""
    for form in forms:
        match form:
            case AfterHeader(name, unit):
                seconds = _from_header(response.headers.get(name, ""), unit, now)
            case AfterBody(at):
                seconds = _number(dig(said.body, at))
            case AfterText(pattern):
                found = re.search(pattern, response.text)
                seconds = _number(found[1]) if found else None
        if seconds is not None:
            return max(0.0, seconds)
    return None


def _first_match(rules: Sequence[Rule], call: Call, status: int, said: Said, *, says_when: bool) -> Rule | None:
    fitting = (rule for rule in rules if says_when or not rule.says_when)
    return next((rule for rule in fitting if _matches(rule, call, status, said)), None)


def _matches(rule: Rule, call: Call, status: int, said: Said) -> bool:
    statuses = (rule.status,) if isinstance(rule.status, int) else rule.status
    return (
        (not statuses or status in statuses)
        and (not rule.effects or call.effect in rule.effects)
        and (not rule.method or rule.method == call.method)
        and (not rule.route or rule.route == call.route)
        and (not rule.code or _pattern(rule.code).fullmatch(said.code) is not None)
        and (not rule.message or _pattern(rule.message).search(said.message) is not None)
    )


@cache
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


def _by_status(status: int, effect: Effect) -> type[ProviderError]:
    if status in BY_STATUS:
        return BY_STATUS[status]
    if status >= 500 or status == 408:
        return Unavailable if effect is Effect.NONE else OutcomeUnknown
    # A success is here only because the profile calls it an error.
    return InvalidRequest if status >= 400 or status < 300 else ProtocolMismatch


def _unfold(text: str) -> JsonValue:
    """The JSON in a text, the first of a list, and JSON that was encoded twice."""
    value: JsonValue = text
    for _ in range(2):
        if isinstance(value, str) and value[:1] in ("{", "[", '"'):
            with suppress(ValueError):
                value = json.loads(value)
    if isinstance(value, list) and value:
        value = value[0]
    return value


def _first_text(body: JsonValue, paths: Sequence[str]) -> str:
    for path in paths:
        found = dig(body, path)
        if isinstance(found, Mapping):
            found = dig(found, "message")
        if isinstance(found, Sequence) and not isinstance(found, str):
            found = "; ".join(item if isinstance(item, str) else json.dumps(item) for item in found)
        if isinstance(found, (str, int)) and not isinstance(found, bool) and str(found).strip():
            return " ".join(str(found).split())
    return ""


def _plain(text: str) -> str:
    """A text that is no JSON: the title of a web page, or the text itself on one line."""
    if text[:1] == "<":
        title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
        text = title[1] if title else re.sub(r"<[^>]*>", " ", text)
    return " ".join(text.split())


def _from_header(value: str, unit: Unit, now: datetime) -> float | None:
    number = _number(value)
    if number is None:
        return _until_date(value, now) if unit is Unit.SECONDS else None
    match unit:
        case Unit.SECONDS:
            return number
        case Unit.MILLISECONDS:
            return number / 1000
        case Unit.EPOCH:
            return number - now.timestamp()


def _until_date(value: str, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now.timestamp()


def _number(value: JsonValue) -> float | None:
    try:
        return float(value) if isinstance(value, (str, int, float)) else None
    except ValueError:
        return None
