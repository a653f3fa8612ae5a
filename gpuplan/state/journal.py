"""Folding journal entries into a state. Pure; `Session` folds what it has made durable, `replay` what a crash left.

Folding is lenient and repeatable: an entry that is folded twice changes nothing the second time, and closing an intent
that is not open is no error. A journal is what happened; refusing to read it would lose it.
"""

from collections.abc import Iterable
from dataclasses import replace
from types import MappingProxyType
from typing import assert_never

from gpuplan.core.address import Address
from gpuplan.core.errors import StateEncrypted
from gpuplan.core.state import (
    Begun,
    Buried,
    Encrypted,
    Ended,
    Entry,
    Expired,
    Intent,
    Noted,
    OutputsSet,
    Recorded,
    Renamed,
    State,
)
from gpuplan.core.values import JsonValue


class Folding:
    """A state that entries are folded into, each in constant time. `view` shows it without copying."""

    def __init__(self, base: State) -> None:
        if base.encrypted:
            # To take it for an empty state would be to plan everything anew.
            raise _without_key()
        self._instances: dict[Address, Recorded] = dict(base.instances)
        self._intents: dict[int, Intent] = dict(base.intents)
        self._outputs: dict[str, JsonValue] = dict(base.outputs)
        self._expired: dict[Address, Expired] = dict(base.expired)
        self._base = replace(
            base,
            instances=MappingProxyType(self._instances),
            intents=MappingProxyType(self._intents),
            outputs=MappingProxyType(self._outputs),
            expired=MappingProxyType(self._expired),
        )
        self._next_seq = base.next_seq
        self._view = self._base

    def fold(self, entry: Entry) -> None:
        match entry:
            case Noted(address, None):
                self._instances.pop(address, None)
            case Noted(address, recorded):
                assert recorded is not None
                self._instances[address] = recorded
                self._expired.pop(address, None)
            case Begun(intent):
                self._intents[intent.seq] = intent
                self._next_seq = max(self._next_seq, intent.seq + 1)
            case Ended(seq):
                self._intents.pop(seq, None)
            case Renamed(source, target):
                if (moved := self._instances.pop(source, None)) is not None:
                    self._instances[target] = replace(moved, address=target)
            case OutputsSet(values):
                self._outputs.clear()
                self._outputs.update(values)
            case Buried(address, None):
                self._expired.pop(address, None)
            case Buried(address, expired):
                assert expired is not None
                self._expired[address] = expired
            case Encrypted():
                raise _without_key()
            case _:
                assert_never(entry)

    def view(self, serial: int) -> State:
        """The state as it is now, under this serial. Its mappings are read-only and change with the next fold."""
        if (self._view.serial, self._view.next_seq) != (serial, self._next_seq):
            self._view = replace(self._base, serial=serial, next_seq=self._next_seq)
        return self._view


def _without_key() -> StateEncrypted:
    return StateEncrypted("the state is encrypted, and was opened without its key")


def fold(state: State, entry: Entry) -> State:
    """The state after one more entry; copies its mappings, so not for loops: `replay` and `Folding` are."""
    return replay(state, (entry,))


def replay(snapshot: State, entries: Iterable[Entry]) -> State:
    """Fold a journal into the snapshot it belongs to; the serial stays that of the snapshot.

    Accepts any prefix of a valid journal. Never drops an open intent.
    """
    folding = Folding(snapshot)
    for entry in entries:
        folding.fold(entry)
    return folding.view(snapshot.serial)
