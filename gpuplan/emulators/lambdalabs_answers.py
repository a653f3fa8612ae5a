"""Lambda's envelopes, and bodies that are checked: `{"data": ...}`, and errors of which the `code` alone counts."""

import base64
import binascii
import re
from collections.abc import Mapping

from gpuplan.core.values import JsonValue
from gpuplan.emulators.http import Json, Refusal, Request, Response

CODES: Mapping[int, str] = {
    400: "global/invalid-parameters",
    401: "global/invalid-api-key",
    403: "global/account-inactive",
    404: "global/not-found",
    409: "global/conflict",
}
SUGGESTIONS: Mapping[str, str] = {
    "global/invalid-api-key": "Check your API key or create a new one, then try again.",
    "global/account-inactive": "Make sure you have verified your email address and have a valid payment method. "
    "Contact Support if problems continue.",
    "global/invalid-address": "Make sure your billing address is valid. Contact Support if problems continue.",
    "global/quota-exceeded": "Contact Support to increase your quota.",
    "global/internal-error": "Try again later. Contact Support if the problem persists.",
    "firewall-rulesets/firewall-ruleset-in-use": "Terminate all instances that are using the ruleset before deleting "
    "it.",
}
MISSING = "global/object-does-not-exist"


class Refused(Refusal):
    """A refusal in Lambda's words. Objects that are missing come with a suggestion where the document wants one."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(_failure(status, code, message))


def error(status: int, text: str) -> Response:
    """What 429 answers is not documented: not JSON, here."""
    if status == 429:
        return Response(429, "Too Many Requests")
    return _failure(status, CODES.get(status, "global/internal-error"), text)


def found(value: JsonValue) -> Response:
    """Every success has status 200, creates and deletes too."""
    return Response(200, {"data": value})


def key_of(request: Request) -> str:
    """The key as a bearer token, or as the user name of basic authentication, encoded or not."""
    scheme, _, rest = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return request.bearer
    try:
        return base64.b64decode(rest, validate=True).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return rest.strip()


def wrong(message: str) -> Refused:
    return Refused(400, CODES[400], message)


def missing(what: str, status: int = 404) -> Refused:
    return Refused(status, MISSING, f"{what} does not exist.")


def text(body: Json, name: str, *, limit: int = 0, pattern: str = "", required: bool = False) -> str:
    """A text; empty when absent, which `required` refuses. `limit` is the most characters."""
    value = body.get(name)
    if value is None:
        if required:
            raise wrong(f"{name}: Field required")
        return ""
    if not isinstance(value, str):
        raise wrong(f"{name}: Input should be a valid string")
    if required and not value:
        raise wrong(f"{name}: String should have at least 1 character")
    if limit and len(value) > limit:
        raise wrong(f"{name}: String should have at most {limit} characters")
    if pattern and value and not re.search(pattern, value):
        raise wrong(f"{name}: String should match pattern '{pattern}'")
    return value


def texts(body: Json, name: str) -> list[str]:
    return [text({name: item}, name, required=True) for item in _items(body, name)]


def objects(body: Json, name: str) -> list[Json]:
    found = _items(body, name)
    if not all(isinstance(item, Mapping) for item in found):
        raise wrong(f"{name}: Input should be a valid list of objects")
    return [dict(item) for item in found if isinstance(item, Mapping)]


def _items(body: Json, name: str) -> list[JsonValue]:
    value = body.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise wrong(f"{name}: Input should be a valid list")
    return value


def _failure(status: int, code: str, message: str) -> Response:
    told: Json = {"code": code, "message": message}
    if code in SUGGESTIONS:
        told["suggestion"] = SUGGESTIONS[code]
    elif code == MISSING:
        told["suggestion"] = "Check the name or ID and try again."
    return Response(status, {"error": told})
