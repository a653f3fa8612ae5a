"""What a run came to: the summary line, what failed with why and where, and what to do next.

Called by `apply`, `destroy` and `import` once the engine is done.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from gpuplan.cli.render.changes import ranges
from gpuplan.core.address import Address
from gpuplan.core.desired import Configuration
from gpuplan.core.diagnostics import At, Diagnostic, Label
from gpuplan.core.errors import ProviderError
from gpuplan.core.plan import Action, Mode
from gpuplan.engine.outcome import Failed, RunOutcome

_DOING = {
    "create": "creating",
    "update": "changing",
    "delete": "deleting",
    "start": "starting",
    "stop": "stopping",
    "extend": "extending",
    "adopt": "importing",
    "forget": "forgetting",
    "read": "waiting for",
}


def outcome_summary(outcome: RunOutcome, mode: Mode) -> str:
    """The line that tools look for; when not everything was done, what was and what was not."""
    imported = sum(operation.action is Action.ADOPT for operation in outcome.done)
    counts = f"{outcome.added} added, {outcome.changed} changed, {outcome.destroyed} destroyed"
    counts = f"{imported} imported, {counts}" if imported else counts
    if outcome.complete and not outcome.interrupted:
        if mode is Mode.DESTROY:
            return f"Destroy complete! Resources: {outcome.destroyed} destroyed."
        return f"Apply complete! Resources: {counts}."
    left = [
        f"{number} {word}"
        for number, word in (
            (len(outcome.failed), "failed"),
            (len(outcome.skipped), "skipped"),
            (len(outcome.unstarted), "not started"),
            (_open(outcome), "left open"),
        )
        if number
    ]
    head = "Deadline passed" if outcome.deadline_passed else "Apply incomplete"
    head = "Interrupted" if outcome.interrupted else head
    rest = f"; {', '.join(left)}" if left else ""
    return f"{head}. Resources: {counts}{rest}."


def _open(outcome: RunOutcome) -> int:
    """Operations of which nobody knows yet what came of them."""
    return max(len(outcome.open), len(outcome.left))


def next_step(outcome: RunOutcome) -> Diagnostic | None:
    """What to do about an incomplete run; None when there is nothing to do."""
    if outcome.complete:
        return None
    facts = ["everything that was done is recorded"]
    if _open(outcome):
        facts.append(f"{_operations(_open(outcome))} may have happened; the next command looks")
    if outcome.skipped:
        facts.append(f"{_operations(len(outcome.skipped))} waited for what failed")
    if outcome.unstarted:
        facts.append(f"{_operations(len(outcome.unstarted))} had not begun")
    return Diagnostic(
        id="incomplete",
        summary="not everything was done",
        facts=tuple(facts),
        hint="see what is left, then apply again",
        commands=("gpuplan plan", "gpuplan apply"),
    )


def failures(outcome: RunOutcome, configuration: Configuration) -> list[Diagnostic]:
    """One diagnostic for each different failure, pointing at the resource; the same one of many nodes is told once."""
    alike: dict[tuple[object, ...], list[Failed]] = {}
    for failed in outcome.failed:
        alike.setdefault(_sameness(failed), []).append(failed)
    found = [diagnostic for group in alike.values() for diagnostic in _failure(group, configuration)]
    return [*found, *(d for error in outcome.output_errors for d in error.diagnostics)]


def _sameness(failed: Failed) -> tuple[object, ...]:
    error, operation = failed.error, failed.operation
    if isinstance(error, ProviderError):
        known = error.failure
        said = (known.provider, known.status, known.code, known.message)
        return error.id, operation.action, operation.address.block, *said
    return error.id, operation.action, operation.address.block, str(error)


def _failure(group: list[Failed], configuration: Configuration) -> Iterator[Diagnostic]:
    first, *others = group
    operation = first.operation
    desired = configuration.instances.get(operation.address)
    doing = f"{_DOING.get(operation.action, operation.action)} {operation.address}"
    for diagnostic in first.error.diagnostics:
        labels, facts = diagnostic.labels, diagnostic.facts
        if not labels and desired is not None:
            labels = (Label(At(desired.path, key=True), doing),)
        elif not labels and str(operation.address) not in diagnostic.summary:
            facts = (doing, *facts)
        if others:
            facts = (*facts, f"the same happened to {named(failed.operation.address for failed in others)}")
        yield replace(diagnostic, labels=labels, facts=facts)


def named(addresses: Iterable[Address]) -> str:
    """Some addresses of one cluster in short."""
    found = sorted(addresses, key=lambda address: address.order)
    nodes = [address.node for address in found if address.node is not None]
    if len(found) > 1 and len(nodes) == len(found):
        return f"{found[0].block}.nodes[{ranges(nodes)}]"
    return ", ".join(map(str, found))


def _operations(count: int) -> str:
    return "1 operation" if count == 1 else f"{count} operations"
