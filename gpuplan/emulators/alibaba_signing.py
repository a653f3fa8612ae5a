"""Who sends a request to the emulated Alibaba Cloud, and whether it is signed as documented: version 3 in headers, and
version 1 in parameters, which older clients use.

The secret of an access key is the text of its id; the pair of the documentation, `testid` and `testsecret`, is one too.
"""

import base64
import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote

from gpuplan.emulators.alibaba_answers import Refused
from gpuplan.emulators.http import Request
from gpuplan.emulators.site import Site

SCHEME = "ACS3-HMAC-SHA256"
VERSION_1 = {
    *("Action", "Version", "Format", "AccessKeyId", "SecurityToken", "Timestamp"),
    *("Signature", "SignatureMethod", "SignatureVersion", "SignatureNonce", "SignatureType"),
}
"""What is no parameter of an action."""
_PROOF = re.compile(rf"{SCHEME} Credential=(?P<id>[^,]*),\s*SignedHeaders=(?P<names>[^,]*),\s*Signature=(?P<proof>\w+)")


def parameters(request: Request) -> dict[str, str]:
    """Of the URL and of the form together."""
    told = {name: values[-1] for name, values in request.query.items() if values}
    if "form" in request.headers.get("content-type", ""):
        told |= dict(parse_qsl(request.content.decode(errors="replace"), keep_blank_values=True))
    return told


def action_of(request: Request) -> str:
    return request.headers.get("x-acs-action") or parameters(request).get("Action", "")


def key_of(request: Request) -> str:
    """The id of the access key; empty when there is none."""
    found = _PROOF.match(request.headers.get("authorization", ""))
    return found["id"] if found else parameters(request).get("AccessKeyId", "")


def check(site: Site, request: Request) -> None:
    """Raises Refused for a proof that does not hold."""
    id = key_of(request)
    secret = "testsecret" if id == "testid" else id
    if request.headers.get("authorization", "").startswith(SCHEME):
        stamp, nonce = _check_3(request, secret)
    else:
        stamp, nonce = _check_1(request, secret)
    _check_moment(site, stamp)
    nonces = site.world.drawers.setdefault((f"{site.type.name} nonces", id), set())
    assert isinstance(nonces, set)
    if nonce in nonces:
        raise Refused(400, "SignatureNonceUsed", "Specified signature nonce was used already.")
    nonces.add(nonce)


def _check_3(request: Request, secret: str) -> tuple[str, str]:
    """Date and nonce of a request that is signed in its headers."""
    found, headers = _PROOF.match(request.headers["authorization"]), request.headers
    if found is None:
        raise Refused(400, "IncompleteSignature", "The request signature does not conform to Aliyun standards.")
    digest = headers.get("x-acs-content-sha256", "")
    if digest != hashlib.sha256(request.content).hexdigest():
        raise _mismatch("the content has another digest")
    names = found["names"].split(";")
    for needed in ("host", "x-acs-action", "x-acs-version", "x-acs-date", "x-acs-signature-nonce"):
        if needed not in names or not headers.get(needed):
            raise Refused(400, "MissingParameter", f"{needed} is mandatory for this action.")
    lines = "".join(f"{name}:{headers.get(name, '').strip()}\n" for name in names)
    pairs = {name: values[-1] for name, values in request.query.items()}
    whole = "\n".join((request.method, "/", _canonical(pairs), lines, ";".join(names), digest))
    to_sign = f"{SCHEME}\n{hashlib.sha256(whole.encode()).hexdigest()}"
    if not hmac.compare_digest(hmac.new(secret.encode(), to_sign.encode(), hashlib.sha256).hexdigest(), found["proof"]):
        raise _mismatch(to_sign)
    return headers["x-acs-date"], headers["x-acs-signature-nonce"]


def _check_1(request: Request, secret: str) -> tuple[str, str]:
    """Date and nonce of a request that is signed in its parameters."""
    told = parameters(request)
    for needed in ("Signature", "SignatureNonce", "Timestamp", "Version"):
        if not told.get(needed):
            raise Refused(400, "MissingParameter", f"{needed} is mandatory for this action.")
    proof = told.pop("Signature")
    to_sign = f"{request.method}&%2F&{_percent(_canonical(told))}"
    made = hmac.new(f"{secret}&".encode(), to_sign.encode(), hashlib.sha1).digest()
    if not hmac.compare_digest(base64.b64encode(made).decode(), proof):
        raise _mismatch(to_sign)
    return told["Timestamp"], told["SignatureNonce"]


def _check_moment(site: Site, stamp: str) -> None:
    """By the clock of this process or by that of its world, which may run ahead: clients live by either."""
    try:
        sent = datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError as exc:
        raise Refused(400, "IllegalTimestamp", "The input parameter Timestamp is not legal.") from exc
    window = timedelta(seconds=site.seconds("clock_window_seconds"))
    if all(abs(now - sent) > window for now in (site.world.clock.now(), site.now)):
        raise Refused(400, "InvalidTimeStamp.Expired", "Specified time stamp or date value is expired.")


def _mismatch(to_sign: str) -> Refused:
    text = f"Specified signature is not matched with our calculation. server string to sign is:{to_sign}"
    return Refused(400, "SignatureDoesNotMatch", text)


def _canonical(pairs: dict[str, str]) -> str:
    return "&".join(f"{_percent(name)}={_percent(value)}" for name, value in sorted(pairs.items()))


def _percent(text: str) -> str:
    return quote(text, safe="-_.~")
