"""The Console's way with answers: error bodies, what is checked of a body, heights of blocks for times."""

from datetime import UTC, datetime

from gpuplan.core.values import JsonValue
from gpuplan.emulators.http import Json, Refusal, Response

NAMES = {
    400: ("BadRequestError", "bad_request", "client_error"),
    401: ("UnauthorizedError", "unauthorized", "authorization_error"),
    402: ("PaymentRequiredError", "unknown_error", "client_error"),
    403: ("ForbiddenError", "forbidden", "authorization_error"),
    404: ("NotFoundError", "not_found", "client_error"),
    409: ("ConflictError", "conflict", "client_error"),
    422: ("UnprocessableEntityError", "unknown_error", "client_error"),
    429: ("TooManyRequestsError", "rate_limited", "client_error"),
    503: ("ServiceUnavailableError", "service_unavailable", "service_unavailable"),
}
GENESIS, FIRST_HEIGHT, BLOCK_SECONDS = datetime(2026, 1, 1, tzinfo=UTC), 27_000_000, 6


class Refused(Refusal):
    """A refusal in the Console's words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(error(status, message))


class Misformed(Refusal):
    """A body that does not validate."""

    def __init__(self, field: str, message: str) -> None:
        rows: list[JsonValue] = [{"code": "invalid_type", "path": ["data", field], "message": message}]
        body: Json = {
            "error": "BadRequestError",
            "message": f"Validation error: {field}: {message}",
            "code": "validation_error",
            "type": "validation_error",
            "data": rows,
        }
        super().__init__(Response(400, body))


def error(status: int, message: str) -> Response:
    name, code, kind = NAMES.get(status, ("InternalServerError", "internal_server_error", "server_error"))
    return Response(status, {"error": name, "message": message, "code": code, "type": kind, "data": None})


def wrapped(value: JsonValue, status: int = 200, seconds: float = 0) -> Response:
    """An answer in its envelope; `seconds`: for so long its transaction takes."""
    return Response(status, {"data": value}, delay_seconds=seconds)


def inner(body: Json) -> Json:
    """The payload in its envelope."""
    data = body.get("data")
    if not isinstance(data, dict):
        raise Misformed("", "Required")
    return data


def text(body: Json, field: str) -> str:
    value = body.get(field)
    if not isinstance(value, str) or not value:
        raise Misformed(field, "Expected string")
    return value


def height(now: datetime) -> int:
    return FIRST_HEIGHT + int((now - GENESIS).total_seconds() // BLOCK_SECONDS)
