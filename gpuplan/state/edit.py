"""Edits of the state that people ask for: `state mv`, `state rm`, `import`. Pure: a state in, journal entries out.

Whoever holds the session writes the entries in one call. They refuse what would lose an object or name it twice.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from gpuplan.core.address import Address
from gpuplan.core.diagnostics import Diagnostic
from gpuplan.core.errors import StateError
from gpuplan.core.nearest import did_you_mean
from gpuplan.core.state import Entry, Noted, Recorded, Renamed, State
from gpuplan.core.values import Attrs, Ref, Value


def move(state: State, source: Address, target: Address) -> tuple[Entry, ...]:
    """Give what is at `source` the address `target`: an instance, or all instances of a resource.

    Records that refer to a moved instance follow it. Raises StateError for an unknown source, a taken target, another
    kind, and instances that a crashed run left open.
    """
    if source.kind != target.kind:
        raise _refusal(
            "move-across-kinds",
            f"`{source}` cannot become `{target}`",
            f"one is of `{source.kind}`, the other of `{target.kind}`",
        )
    targets = {address: _moved(address, source, target) for address in covered(state, source)}
    for address, becomes in targets.items():
        if becomes in state.instances:
            raise _refusal("address-taken", f"`{becomes}` is in the state already", f"`{address}` would become it too")
    _check_settled(state, targets)
    renames = [Renamed(address, becomes) for address, becomes in targets.items()]
    whole = {source: target} if source not in targets else {}
    return (*renames, *_followed(state, {**targets, **whole}))


def remove(state: State, address: Address) -> tuple[Entry, ...]:
    """Forget an instance, or all instances of a resource; the objects themselves stay as they are.

    Raises StateError for an unknown address, and for instances that a crashed run left open.
    """
    addresses = covered(state, address)
    _check_settled(state, addresses)
    return tuple(Noted(each, None) for each in addresses)


def adopt(state: State, recorded: Recorded) -> tuple[Entry, ...]:
    """Take an object that exists into the state (`import`, `orphans adopt`).

    Raises StateError when the address is taken or another instance has that object.
    """
    if recorded.address in state.instances:
        raise _refusal(
            "address-taken",
            f"`{recorded.address}` is in the state already",
            f"it is {state.instances[recorded.address].remote_id}",
        )
    owner = next((each.address for each in state.instances.values() if _same_object(each, recorded)), None)
    if owner is not None:
        raise _refusal(
            "object-taken",
            f"`{recorded.remote_id}` is in the state already",
            f"it is `{owner}`; one object has one address",
        )
    return (Noted(recorded.address, recorded),)


def covered(state: State, address: Address) -> tuple[Address, ...]:
    """The instances that an address names, in order. Raises StateError with the nearest names when there are none."""
    found = tuple(sorted((each for each in state.instances if address.covers(each)), key=lambda each: each.order))
    if not found:
        raise _unknown(state, address)
    return found


def _moved(address: Address, source: Address, target: Address) -> Address:
    """`address` with the part that `source` names replaced by `target`."""
    if address == source:
        fits = (address.node is None) == (target.node is None)
        moved = target
    else:
        many_keys = source.key is None and address.key is not None
        fits = target.node is None and not (many_keys and target.key is not None)
        moved = target._replace(key=address.key if many_keys else target.key, node=address.node)
    if not fits:
        raise _refusal(
            "move-across-levels", f"`{source}` cannot become `{target}`", f"`{address}` would have no place there"
        )
    return moved


def _check_settled(state: State, addresses: Iterable[Address]) -> None:
    touched = set(addresses)
    pending = next((intent for intent in state.intents.values() if intent.address in touched), None)
    if pending is not None:
        raise StateError(
            diagnostics=(
                Diagnostic(
                    id="intent-open",
                    summary=f"a crashed run left `{pending.address}` open",
                    facts=(f"intent {pending.seq}: {pending.action}, outcome not known",),
                    hint="make a plan first: it looks what came of it",
                    commands=("gpuplan plan",),
                ),
            )
        )


def _followed(state: State, targets: Mapping[Address, Address]) -> list[Noted]:
    """The records that refer to moved instances, referring to their new addresses."""
    entries = []
    for recorded in state.instances.values():
        depends_on = frozenset(targets.get(each, each) for each in recorded.depends_on)
        attrs = _follow_all(recorded.attrs, targets)
        if depends_on != recorded.depends_on or attrs is not recorded.attrs:
            address = targets.get(recorded.address, recorded.address)
            entries.append(Noted(address, replace(recorded, address=address, depends_on=depends_on, attrs=attrs)))
    return entries


def _follow_all(attrs: Attrs, targets: Mapping[Address, Address]) -> Attrs:
    followed = {name: _follow(value, targets) for name, value in attrs.items()}
    return attrs if all(followed[name] is attrs[name] for name in attrs) else followed


def _follow(value: Value, targets: Mapping[Address, Address]) -> Value:
    if isinstance(value, Ref):
        return Ref(targets[value.address], value.remote_id) if value.address in targets else value
    if isinstance(value, Mapping):
        return _follow_all(value, targets)
    if isinstance(value, (list, tuple)):
        items = [_follow(item, targets) for item in value]
        return value if all(new is old for new, old in zip(items, value, strict=True)) else items
    return value


def _same_object(one: Recorded, other: Recorded) -> bool:
    return (one.provider, one.account, one.kind, one.remote_id) == (
        other.provider,
        other.account,
        other.kind,
        other.remote_id,
    )


def _refusal(error_id: str, summary: str, fact: str) -> StateError:
    return StateError(diagnostics=(Diagnostic(id=error_id, summary=summary, facts=(fact, "nothing was changed")),))


def _unknown(state: State, address: Address) -> StateError:
    names = {str(each) for known in state.instances for each in (known, known.block, known.resource)}
    meant = did_you_mean(str(address), names)
    return StateError(
        diagnostics=(
            Diagnostic(
                id="unknown-address",
                summary=f"`{address}` is not in the state",
                hint=meant or "see what is there",
                commands=() if meant else ("gpuplan state list",),
            ),
        )
    )
