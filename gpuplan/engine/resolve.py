"""Fill in what only became known during apply: ids and facts of instances that were made a moment ago.

Called by the executor just before an operation runs, and for the outputs at the end. Pure.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property

from gpuplan.core.address import Address
from gpuplan.core.desired import Candidate, Desired
from gpuplan.core.diagnostics import At, Diagnostic, Label
from gpuplan.core.errors import SpecError
from gpuplan.core.offers import Offer
from gpuplan.core.plan import Plan
from gpuplan.core.ports import Links, Want
from gpuplan.core.seal import sealed_within, secret_elsewhere
from gpuplan.core.state import Recorded, State
from gpuplan.core.values import UNKNOWN, Attrs, Ref, Value, has_unknown, leaves, resolve
from gpuplan.plan.compare import differences
from gpuplan.plan.scope import Awaited, resource_view

NAME_LENGTH = 40
_TOKEN_IN_NAME = 8


class StateScope:
    """A `core.values.Scope` over the records of a state that changes; `read` gives the state as it is now.

    `members` are the addresses that expressions may see. What the views cost is paid once per resource, until
    `changed` says that a record of it is another one.
    """

    def __init__(self, read: Callable[[], State], members: Iterable[Address]) -> None:
        self._read = read
        self._addresses = members
        self._views: dict[Address, Value] = {}

    def remote_id(self, address: Address) -> str | None:
        recorded = self._read().instances.get(address)
        return None if recorded is None else recorded.remote_id

    def view(self, resource: Address) -> Value:
        if resource not in self._views:
            self._views[resource] = self._view(resource)
        return self._views[resource]

    def changed(self, address: Address) -> None:
        self._views.pop(address.resource, None)
        self._views.pop(address.block, None)

    def resolve(self, attrs: Attrs) -> Attrs:
        """Attributes with everything filled in that is known. Raises SpecError for what cannot be computed."""
        return {name: resolve(value, self) for name, value in attrs.items()}

    @cached_property
    def _members(self) -> Mapping[Address, Sequence[Address]]:
        members: dict[Address, list[Address]] = {}
        for address in self._addresses:
            members.setdefault(address.resource, []).append(address)
        return members

    def _view(self, resource: Address) -> Value:
        instances = self._read().instances

        def see(address: Address, name: str) -> Value:
            recorded = instances.get(address)
            if recorded is None:
                return Awaited(name=name, id=UNKNOWN)
            return {**recorded.attrs, **recorded.facts, "id": recorded.remote_id, "name": name}

        known = self._members.get(resource.resource, ())
        return resource_view(resource, (a for a in known if resource.key in (None, a.key)), see)


def members(plan: Plan, state: State) -> Iterator[Address]:
    """The addresses that exist once the plan is applied: all it wants, and what it does not speak of."""
    known = {**dict.fromkeys(state.instances), **dict.fromkeys(plan.changes)}
    for address in sorted(known, key=_by_order):
        change = plan.changes.get(address)
        if change is None or change.desired is not None:
            yield address


def _by_order(address: Address) -> tuple[str, str, bool, int, str, int]:
    return address.order


def want_of(desired: Desired, attrs: Attrs, *, token: str, offer: Offer | None = None) -> Want:
    """What is sent to a provider. Raises SpecError when an attribute is still not known."""
    for name, value in attrs.items():
        if has_unknown(value):
            raise SpecError(diagnostics=(_still_unknown(desired, name),))
        if not isinstance(value, str) and (inner := sealed_within(value)) is not None:
            raise SpecError(diagnostics=(secret_elsewhere(At((*desired.path, name, *inner))),))
    return Want(desired.address, desired.kind, attrs, readable_name(desired.address, token), offer)


def links_of(attrs: Attrs, record: Callable[[Address], Recorded | None]) -> Links:
    """The records of all that the attributes refer to."""
    links = {}
    for value in attrs.values():
        # Most attributes are texts; they refer to nothing.
        if not isinstance(value, str):
            for leaf in leaves(value):
                if isinstance(leaf, Ref) and (recorded := record(leaf.address)) is not None:
                    links[leaf.address] = recorded
    return links


def readable_name(address: Address, token: str) -> str:
    """A name that people recognise and that differs with every attempt."""
    parts = (address.name, address.key, address.node)
    words = "-".join(str(part) for part in parts if part is not None).lower()
    text = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in words)
    return f"{text[: NAME_LENGTH - _TOKEN_IN_NAME - 1].strip('-')}-{token[-_TOKEN_IN_NAME:]}"


def closest(desired: Desired, recorded: Recorded, scope: StateScope, key: bytes) -> tuple[Candidate, Attrs]:
    """The candidate an instance lives at, with its attributes resolved: of several at its provider, the one that
    differs least."""
    here = [candidate for candidate in desired.candidates if candidate.provider == recorded.provider]
    resolved = [(candidate, scope.resolve(candidate.attrs)) for candidate in here or desired.candidates]
    if len(resolved) == 1:
        return resolved[0]
    return min(resolved, key=lambda item: sum(1 for _ in differences(recorded.attrs, item[1], key)))


def _still_unknown(desired: Desired, name: str) -> Diagnostic:
    return Diagnostic(
        id="value-unknown",
        summary=f"`{name}` of `{desired.address}` is not known",
        labels=(Label(At((*desired.path, name)), "this value"),),
        facts=("the provider does not tell what it refers to", "nothing was sent for this instance"),
    )
