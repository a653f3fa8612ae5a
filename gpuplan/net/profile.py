"""What an adapter declares about its provider's HTTP API: addresses, keys, errors, pages, limits. Data only.

A vendor's oddity in one of these becomes a field here, not code in an adapter.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from gpuplan.core.capabilities import RateLimit
from gpuplan.core.errors import ProviderError
from gpuplan.core.values import JsonValue

if TYPE_CHECKING:
    from gpuplan.net.auth import Auth


class Effect(StrEnum):
    """What a call does to the world, which decides whether it may be sent again."""

    NONE = "none"
    REPEATABLE = "repeatable"
    """Sending it twice leaves the same as sending it once: a delete, a power switch, setting a value."""
    ONCE = "once"
    """Sending it twice may do it twice: after a lost answer somebody has to look."""


EFFECTS: Mapping[str, Effect] = {
    "GET": Effect.NONE,
    "HEAD": Effect.NONE,
    "PUT": Effect.REPEATABLE,
    "DELETE": Effect.REPEATABLE,
}
"""What a method means where the adapter does not say; every other one is ONCE."""


class Encoding(StrEnum):
    JSON = "json"
    FORM = "form"


@dataclass(frozen=True, slots=True)
class Host:
    """A base URL, and the variables of the provider's own tools that replace it."""

    url: str
    env: tuple[str, ...] = ()
    is_open: bool = False
    """Calls go there without credentials: they are for somebody else."""


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A file of the provider's own tools. `path` may begin with `~` or `$XDG_CONFIG_HOME`; `pick` is the dotted path of
    the value in its YAML, TOML, JSON or INI, or a function that finds it. An empty `pick` takes the whole text."""

    path: str
    pick: str | Callable[[JsonValue], str | None] = ""


@dataclass(frozen=True, slots=True)
class Credential:
    """A secret the API wants: the variables and files it is looked for in, in this order."""

    env: tuple[str, ...]
    files: tuple[ConfigFile, ...] = ()
    required: bool = True
    get_one_at: str = ""
    """Where to get a key: the URL in the hint."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of an error table. Everything that is given must match; the first row that does decides.

    `code` and `message` are regular expressions without regard to case: the whole code, a part of the message.
    """

    error: type[ProviderError]
    status: int | tuple[int, ...] = ()
    code: str = ""
    message: str = ""
    route: str = ""
    method: str = ""
    effects: tuple[Effect, ...] = ()
    hint: str | None = None
    says_when: bool = False
    """Only where the answer says when to come back."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """The answer names the next page. `more` is the path of a flag that says whether there is one."""

    send: str
    at: str
    size: str = ""
    page_size: int = 100
    more: str = ""
    in_body: bool = False
    """The parameters go into the body, not into the URL."""
    expires: bool = False
    """A page that is asked for too late is gone (410): the listing is read again from its beginning."""


@dataclass(frozen=True, slots=True)
class Numbered:
    """Pages count from `first`. `at` is the path of the next page's number; without it a short page is the last."""

    send: str = "page"
    at: str = ""
    size: str = "per_page"
    page_size: int = 50
    first: int = 1
    in_body: bool = False


@dataclass(frozen=True, slots=True)
class Offset:
    """Skip what was seen. `total` is the path of how many there are; without it a short page is the last."""

    send: str = "offset"
    size: str = "limit"
    page_size: int = 100
    total: str = ""
    in_body: bool = False


@dataclass(frozen=True, slots=True)
class LinkHeader:
    """The header `Link` names the next page."""

    size: str = ""
    page_size: int = 100


@dataclass(frozen=True, slots=True)
class Rising:
    """A search in the order of `column` that has no pages: the next begins with the value the last item had, as a
    filter `{column: {from_operator: value}}` of the body. Items on the border come twice."""

    column: str
    page_size: int
    """What the server gives at most, whatever it is asked for; less than that is the last page."""
    from_operator: str = "gte"
    most_pages: int = 50
    """There may be more than anyone wants to read."""


Paging: TypeAlias = Cursor | Numbered | Offset | LinkHeader | Rising


class Unit(StrEnum):
    SECONDS = "seconds"
    """A header in seconds may hold a date instead."""
    MILLISECONDS = "milliseconds"
    EPOCH = "epoch"


@dataclass(frozen=True, slots=True)
class AfterHeader:
    name: str = "retry-after"
    unit: Unit = Unit.SECONDS


@dataclass(frozen=True, slots=True)
class AfterBody:
    """Seconds at a path of the JSON answer."""

    at: str


@dataclass(frozen=True, slots=True)
class AfterText:
    """Seconds in the first group of an expression found in the answer's text."""

    pattern: str


RetryAfter: TypeAlias = AfterHeader | AfterBody | AfterText


@dataclass(frozen=True, slots=True)
class KeyHeader:
    """The idempotency key goes into a header."""

    name: str = "Idempotency-Key"


@dataclass(frozen=True, slots=True)
class KeyField:
    """The idempotency key goes into the body."""

    name: str


@dataclass(frozen=True, slots=True)
class Bucket:
    """A limit of its own for one method or route, besides the account's in `Capabilities.rate_limit`."""

    limit: RateLimit
    method: str = ""
    route: str = ""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait for an answer, by what a call does."""

    read: float = 30
    effect: float = 60

    def of(self, effect: Effect) -> float:
        return self.read if effect is Effect.NONE else self.effect


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a call that may be repeated is sent at most, and how long one waits in between."""

    attempts: int = 5
    base_seconds: float = 0.5
    most_seconds: float = 20
    patience_seconds: float = 120
    """A provider that asks us to wait longer gets its error passed on instead."""


@dataclass(frozen=True, slots=True)
class HttpProfile:
    """One provider's HTTP API. Paths into JSON are dotted (`error.code`); of several, the first that holds a text."""

    hosts: Mapping[str, Host]
    """By name; calls go to the one named `""` unless they say otherwise."""
    auth: "Auth"
    credentials: Mapping[str, Credential]
    """By the name under which `auth` asks for them."""
    rules: tuple[Rule, ...] = ()
    error_code: tuple[str, ...] = ()
    error_message: tuple[str, ...] = ("message", "error", "detail")
    leftover: str = ""
    """Path, in an error, of the id of an object that exists all the same."""
    envelope: str = ""
    """Path that every successful answer is wrapped in."""
    is_error: Callable[[JsonValue], bool] | None = None
    """Tells a refusal that comes with a successful status."""
    encoding: Encoding = Encoding.JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    pages: Paging | None = None
    buckets: tuple[Bucket, ...] = ()
    retry_after: tuple[RetryAfter, ...] = (AfterHeader(),)
    idempotency: KeyHeader | KeyField | None = None
    request_id: tuple[str, ...] = ("x-request-id",)
    timeouts: Timeouts = Timeouts()
    retries: Retries = Retries()
    action_header: str = ""
    """The API has a single address, and this header names what is asked there: routes are `/ACTION`."""
    secret_fields: frozenset[str] = frozenset()
    """Fields of answers that are taken out before anyone sees them: generated passwords, console links."""
