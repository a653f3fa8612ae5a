"""Lium's way with answers: error bodies of two generations, fields that are checked, times without a zone."""

from datetime import datetime

from gpuplan.core.values import JsonValue
from gpuplan.emulators.http import Json, Refusal, Response

CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    409: "conflict",
    429: "rate_limited",
}


class Refused(Refusal):
    """A refusal in Lium's words; `hint` goes along."""

    def __init__(self, status: int, code: str, message: str, hint: str | None = None) -> None:
        super().__init__(answer(status, code, message, hint))


class Misformed(Refusal):
    """A body that does not validate, as the older routes say it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(Response(422, {"detail": [{"loc": ["body", field], "msg": message, "type": "value_error"}]}))


def error(status: int, text: str) -> Response:
    """Errors that are not about one object; gateways in front of Lium answer in HTML."""
    if status >= 502:
        return Response(status, f"<html><head><title>{status} {text}</title></head><body></body></html>")
    return answer(status, CODES.get(status, "internal_error"), text)


def answer(status: int, code: str, message: str, hint: str | None = None) -> Response:
    inner: Json = {"code": code, "message": message, "hint": hint, "request_id": f"req-{status}"}
    return Response(status, {"error": inner, "message": message}, {"X-Request-Id": f"req-{status}"})


def firewall() -> Response:
    """What stands in front of the API, and does not like some bodies."""
    return Response(403, "<html><head><title>403 Forbidden</title></head><body>Request blocked.</body></html>")


def moment(time: datetime) -> str:
    """UTC, and not saying so."""
    return time.replace(tzinfo=None).isoformat(timespec="seconds")


def text(body: Json, field: str, *, required: bool = False) -> str:
    value = body.get(field)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or (required and not value):
        raise Misformed(field, "Input should be a valid string")
    return value


def whole(body: Json, field: str, least: int, most: int) -> int | None:
    """A number within bounds; None where it is not said."""
    value = body.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise Misformed(field, f"Input should be a whole number from {least} to {most}")
    return value


def texts(body: Json, field: str) -> list[str]:
    """A list of texts; old clients send a single one."""
    value: JsonValue = body.get(field)
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list) or not given or not all(isinstance(item, str) and item.strip() for item in given):
        raise Misformed(field, "List should have at least 1 item after validation")
    return [str(item) for item in given]
