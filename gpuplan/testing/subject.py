"""Which checks of the kit have anything to try at a provider, and what it lacks for the others.

A check says with `tried_unless` what it needs; who runs it and who prints the matrix of types by checks ask the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from gpuplan.core.capabilities import Capabilities, Idempotency, Mutability
from gpuplan.core.desired import Kind
from gpuplan.core.values import Attrs

if TYPE_CHECKING:
    from gpuplan.testing.conformance import ProviderConformance

NOT_SENT = {Mutability.REPLACE, Mutability.LOCAL}
RUNNING_KINDS = (Kind.NODE, Kind.GROUP)


@dataclass(frozen=True, slots=True)
class Subject:
    """A provider type under test, as its capabilities and its contract describe it."""

    can: Capabilities
    asks: Mapping[Kind, Attrs]
    contract: "type[ProviderConformance]"

    @property
    def running_kinds(self) -> list[Kind]:
        return [kind for kind in RUNNING_KINDS if kind in self.asks]

    def has_attribute(self, name: str) -> bool:
        return any(name in kind.attributes for kind in self.can.kinds.values())

    @property
    def changes_in_place(self) -> bool:
        return any(set(kind.attributes.values()) - NOT_SENT for kind in self.can.kinds.values())


Lack: TypeAlias = Callable[[Subject], str]
"""What the provider has none of, in words that name the capability; empty: there is something to try."""

F = TypeVar("F", bound=Callable[..., object])
_LACKS: dict[str, Lack] = {}


def tried_unless(lack: Lack) -> Callable[[F], F]:
    """Say of a check when it has nothing to try. It stands above whatever makes the check run."""

    def note(test: F) -> F:
        _LACKS[test.__name__] = lack
        return test

    return note


def lacks(check: str, subject: Subject) -> str:
    """Why a check has nothing to try; empty: it has."""
    lack = _LACKS.get(check)
    return "" if lack is None else lack(subject)


def no_idempotency(subject: Subject) -> str:
    has = any(kind.idempotency is not Idempotency.NONE for kind in subject.can.kinds.values())
    return "" if has else "`idempotency` is `none` for every kind"


def no_update(subject: Subject) -> str:
    return "" if subject.changes_in_place else "no attribute changes in place (`mutability`)"


def no_stop(subject: Subject) -> str:
    return "" if subject.can.stop_start and subject.running_kinds else "no `stop_start`"


def no_change_at_all(subject: Subject) -> str:
    return f"{no_update(subject)}, and {no_stop(subject)}" if no_update(subject) and no_stop(subject) else ""


def no_logs(subject: Subject) -> str:
    return "" if subject.can.logs and subject.running_kinds else "no `logs`"


def no_exec(subject: Subject) -> str:
    return "" if subject.can.exec else "no `exec`: commands go over SSH"


def no_offers(subject: Subject) -> str:
    return "" if subject.can.offers else "no `offers`"


def no_env(subject: Subject) -> str:
    return "" if subject.has_attribute("env") else "no kind has `env`"


def no_delay(subject: Subject) -> str:
    return "" if subject.can.visibility_delay_seconds else "`visibility_delay_seconds` is 0"


def no_declared_keys(subject: Subject) -> str:
    if not subject.can.ssh:
        return "no `ssh`"
    node = subject.can.kinds.get(Kind.NODE)
    return "" if node is not None and "ssh_keys" in node.attributes else "nodes have no `ssh_keys`"
