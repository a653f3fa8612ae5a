"""Write an ownership mark where a provider has room for it, and read it back.

One grammar everywhere: pairs of `gpuplan-token=...`, as tags, as labels, as words of a text. Adapters write and read
it; emulators use it to tell in their ledger which of our tokens an object carries.
"""

import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote, unquote

from gpuplan.core.address import Address
from gpuplan.core.marks import Mark

PREFIX = "gpuplan-"
_PAIR = re.compile(r"gpuplan-(token|project|workspace|lineage|address)=(\S+)")
_AFTER_NAME = re.compile(r"[-_](?P<token>[a-z][a-z0-9]{19})$")
# Brackets stay readable; blanks, quotes and percent signs do not survive as words of a text.
_READABLE = "[]/:@+,"


def to_tags(mark: Mark, *, limit: int | None = None) -> list[str]:
    """The mark as tags. What does not fit into `limit` characters is left out; the token always fits."""
    tags = [f"{PREFIX}{name}={quote(value, safe=_READABLE)}" for name, value in _pairs(mark)]
    return [tag for tag in tags if limit is None or len(tag) <= limit]


def from_tags(tags: Iterable[str]) -> Mark | None:
    """The mark in a list of tags, or in the words of a text; None when there is no token."""
    return _mark({match[1]: unquote(match[2]) for tag in tags for match in _PAIR.finditer(tag)})


def is_mark_tag(tag: str) -> bool:
    return tag.startswith(PREFIX)


def to_text(name: str, mark: Mark, *, limit: int | None = None) -> str:
    """A name people can read with the mark behind it, for a field of free text. What would make it longer than `limit`
    is left out; the token never is."""
    token, *more = to_tags(mark)
    text = f"{name} {token}"
    for tag in more:
        if limit is None or len(text) + 1 + len(tag) <= limit:
            text = f"{text} {tag}"
    return text


def from_text(text: str) -> Mark | None:
    return from_tags([text])


def name_in_text(text: str) -> str:
    """What `to_text` put in front of the mark."""
    return text.partition(f" {PREFIX}token=")[0]


def to_labels(mark: Mark) -> dict[str, str]:
    """The mark as labels of at most 63 characters out of letters, digits, `.`, `-` and `_`."""
    labels = {f"{PREFIX}{name}": _escape(value) for name, value in _pairs(mark)}
    return {name: value for name, value in labels.items() if len(value) <= 63}


def from_labels(labels: Mapping[str, str]) -> Mark | None:
    return _mark({name[len(PREFIX) :]: _unescape(value) for name, value in labels.items() if name.startswith(PREFIX)})


def to_name(name: str, mark: Mark, *, limit: int = 63, joint: str = "-") -> str:
    """A name that ends in the token, for providers with no other place for it. `joint` is `-`, or `_` where names have
    no dashes."""
    readable = name[: limit - len(mark.token) - 1].replace("-", joint)
    return f"{readable.rstrip(joint)}{joint}{mark.token}"


def from_name(name: str) -> Mark | None:
    match = _AFTER_NAME.search(name)
    return None if match is None else Mark(match["token"])


def _pairs(mark: Mark) -> list[tuple[str, str]]:
    address = "" if mark.address is None else str(mark.address)
    pairs = [("token", mark.token), ("project", mark.project), ("workspace", mark.workspace)]
    return [(name, value) for name, value in [*pairs, ("lineage", mark.lineage), ("address", address)] if value]


def _mark(values: Mapping[str, str]) -> Mark | None:
    if not (token := values.get("token", "")):
        return None
    try:
        address = Address.parse(values.get("address", ""))
    except ValueError:
        address = None
    return Mark(token, values.get("project", ""), values.get("workspace", ""), values.get("lineage", ""), address)


def _escape(value: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]", lambda match: "".join(f"_{byte:02x}" for byte in match[0].encode()), value)


def _unescape(value: str) -> str:
    return re.sub(r"(?:_[0-9a-f]{2})+", lambda match: bytes.fromhex(match[0].replace("_", "")).decode(), value)
