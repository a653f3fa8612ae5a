"""Signature version 3 of Alibaba Cloud's RPC interfaces, `ACS3-HMAC-SHA256`, and their way to write nested parameters.

Written here because the vendor's own signer comes with a client of twenty megabytes that opens a connection per call;
the vendor's published vectors prove it, and its clients prove the emulator that checks it.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, quote, urlsplit

from gpuplan.core.values import JsonValue
from gpuplan.net.auth import Signing
from gpuplan.net.exchange import Outgoing

ALGORITHM = "ACS3-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Acs3:
    """Signs with the credentials of these names; the token of a temporary credential is sent where there is one."""

    key_id: str = "access_key_id"
    secret: str = "access_key_secret"
    token: str = "security_token"

    async def sign(self, outgoing: Outgoing, signing: Signing) -> Outgoing:
        headers = {
            **outgoing.headers,
            "host": urlsplit(outgoing.url).netloc,
            "x-acs-date": signing.now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            # The provider remembers them: one that was sent before is refused.
            "x-acs-signature-nonce": secrets.token_hex(16),
            "x-acs-content-sha256": hashlib.sha256(outgoing.content).hexdigest(),
        }
        if self.token in signing.keys:
            headers |= {
                "x-acs-accesskey-id": signing.key(self.key_id),
                "x-acs-security-token": signing.key(self.token),
            }
        signed = replace(outgoing, headers=headers)
        proof = authorization(signed, key_id=signing.key(self.key_id), secret=signing.key(self.secret))
        return replace(signed, headers={**headers, "Authorization": proof})


def authorization(outgoing: Outgoing, *, key_id: str, secret: str) -> str:
    """The header of that name for a request that has all its other headers."""
    lower = {name.lower(): value.strip() for name, value in outgoing.headers.items()}
    names = sorted(name for name in lower if name in ("host", "content-type") or name.startswith("x-acs-"))
    lines = "".join(f"{name}:{lower[name]}\n" for name in names)
    # An RPC interface has one path, whatever is in front of it.
    parts = (outgoing.method, "/", _query(outgoing.url), lines, ";".join(names), lower["x-acs-content-sha256"])
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    signature = hmac.new(secret.encode(), f"{ALGORITHM}\n{digest}".encode(), hashlib.sha256).hexdigest()
    return f"{ALGORITHM} Credential={key_id},SignedHeaders={';'.join(names)},Signature={signature}"


def flat(parameters: Mapping[str, JsonValue]) -> dict[str, str]:
    """Nested parameters under dotted names, lists counted from 1 (`Tag.1.Key`); what is None is left out."""
    found: dict[str, str] = {}
    for name, value in parameters.items():
        match value:
            case None:
                continue
            case Mapping():
                found |= {f"{name}.{inner}": text for inner, text in flat(value).items()}
            case bool():
                found[name] = "true" if value else "false"
            case str() | int() | float():
                found[name] = str(value)
            case Sequence():
                found |= flat({f"{name}.{number}": item for number, item in enumerate(value, 1)})
    return found


def _query(url: str) -> str:
    pairs = sorted(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    return "&".join(f"{_percent(name)}={_percent(value)}" for name, value in pairs)


def _percent(text: str) -> str:
    return quote(text, safe="-_.~")
