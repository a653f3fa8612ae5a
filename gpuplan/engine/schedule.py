"""Which operation is next. Pure: knows the graph and what has finished, nothing of tasks or time.

Called by `executor`. Every operation is looked at a constant number of times per edge, whatever the size of the plan.
"""

from collections.abc import Callable, Sequence
from heapq import heappop, heappush

from gpuplan.core.plan import Action, Operation


class Schedule:
    """The operations of a plan, which come in a valid order. Of those that are ready, the one at the head of the
    longest remaining chain is next; among equals, the earlier one."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self._operations = operations
        number = {operation.id: index for index, operation in enumerate(operations)}
        self._missing = [len(operation.needs) for operation in operations]
        self._dependents: list[list[int]] = [[] for _ in operations]
        for index, operation in enumerate(operations):
            for need in operation.needs:
                self._dependents[number[need]].append(index)
        self._chain = _chains(operations, self._dependents)
        self._number = number
        self._ready: dict[str, list[tuple[int, int]]] = {}
        self._waiting = set(range(len(operations)))
        for index, missing in enumerate(self._missing):
            if not missing:
                self._release(index)

    def next(self, has_room: Callable[[str], bool]) -> Operation | None:
        """Take the next operation of a provider that has room; None when there is none now."""
        best: list[tuple[int, int]] | None = None
        for provider, heap in self._ready.items():
            if heap and (best is None or heap[0] < best[0]) and has_room(provider):
                best = heap
        if best is None:
            return None
        index = heappop(best)[1]
        self._waiting.discard(index)
        return self._operations[index]

    def finished(self, operation: Operation) -> None:
        """Make ready what only waited for this one."""
        self._pass_on(self._number[operation.id])

    def failed(self, operation: Operation) -> list[tuple[Operation, str]]:
        """Drop everything that needs it, directly or not; each with the id of what it needed."""
        dropped: list[tuple[Operation, str]] = []
        pending = [self._number[operation.id]]
        while pending:
            index = pending.pop()
            for dependent in self._dependents[index]:
                if dependent in self._waiting:
                    self._waiting.discard(dependent)
                    pending.append(dependent)
                    if self._operations[dependent].action is not Action.NO_OP:
                        dropped.append((self._operations[dependent], self._operations[index].id))
        return dropped

    def rest(self) -> list[Operation]:
        """What has neither been taken nor dropped, in plan order."""
        waiting = (self._operations[index] for index in sorted(self._waiting))
        return [operation for operation in waiting if operation.action is not Action.NO_OP]

    def _release(self, index: int) -> None:
        operation = self._operations[index]
        if operation.action is Action.NO_OP:
            self._waiting.discard(index)
            self._pass_on(index)
        else:
            heappush(self._ready.setdefault(operation.provider, []), (-self._chain[index], index))

    def _pass_on(self, index: int) -> None:
        pending = [index]
        while pending:
            for dependent in self._dependents[pending.pop()]:
                self._missing[dependent] -= 1
                if self._missing[dependent] or dependent not in self._waiting:
                    continue
                # Joins do nothing themselves; a row of them must not become a row of calls.
                if self._operations[dependent].action is Action.NO_OP:
                    self._waiting.discard(dependent)
                    pending.append(dependent)
                else:
                    self._release(dependent)


def _chains(operations: Sequence[Operation], dependents: Sequence[Sequence[int]]) -> list[int]:
    """How many operations the longest chain from each one has, itself included; joins count nothing."""
    chains = [0] * len(operations)
    for index in range(len(operations) - 1, -1, -1):
        longest = max((chains[dependent] for dependent in dependents[index]), default=0)
        chains[index] = longest + (operations[index].action is not Action.NO_OP)
    return chains
