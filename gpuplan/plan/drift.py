"""What reality does that the state does not know of. Read-only; silent about what the spec wants changed.

Called by `workflow` for `gpuplan drift`, and by `planner` for the note above a plan.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from gpuplan.core.address import Address
from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import Configuration
from gpuplan.core.diagnostics import At
from gpuplan.core.observed import GONE, Observed, Status, Survey
from gpuplan.core.plan import Drift, DriftKind, Reason
from gpuplan.core.state import Recorded, State
from gpuplan.plan.compare import STOPPED, current_attrs, differences


def find_drift(
    configuration: Configuration | None, state: State, survey: Survey, capabilities: Mapping[str, Capabilities]
) -> tuple[Drift, ...]:
    """All drift in address order, then orphans, then providers that could not be asked.

    `configuration` only adds positions; without it drift is the same.
    """
    found: list[Drift] = []
    known = _Known(state.key, configuration, capabilities)
    for address in sorted(state.instances, key=lambda address: address.order):
        recorded = state.instances[address]
        if address in survey.instances:
            found += _of_instance(recorded, survey.instances[address], known)
        elif address in survey.unseen:
            found.append(_drift(DriftKind.UNREACHABLE, recorded, known, survey.unseen[address]))
    for provider, orphan in sorted(survey.orphans, key=lambda item: (item[0], item[1].remote_id)):
        found.append(_orphan(provider, orphan))
    for provider, error in sorted(survey.unreachable.items()):
        found.append(Drift(DriftKind.UNREACHABLE, None, provider, text=str(error)))
    return tuple(found)


class _Known(NamedTuple):
    """What is the same for every instance."""

    key: bytes
    configuration: Configuration | None
    capabilities: Mapping[str, Capabilities]

    def at(self, recorded: Recorded, path: str = "") -> At | None:
        """Where the spec has the instance, or one of its attributes."""
        desired = None if self.configuration is None else self.configuration.instances.get(recorded.address)
        if desired is None or self.configuration is None:
            return None
        candidate = next((c for c in desired.candidates if c.provider == recorded.provider), None)
        if not path or candidate is None:
            return At(desired.path, key=True)
        return self.configuration.at(desired, candidate, path.partition(".")[0])


def _of_instance(recorded: Recorded, observed: Observed | None, known: _Known) -> Iterator[Drift]:
    if observed is None or observed.status in GONE:
        capabilities = known.capabilities.get(recorded.provider)
        detail = "" if observed is None else observed.detail
        text = loss(capabilities is not None and capabilities.ephemeral, detail)
        yield _drift(DriftKind.MISSING, recorded, known, text)
        return
    reasons = tuple(_changed(recorded, observed, known))
    if reasons:
        yield replace(_drift(DriftKind.CHANGED, recorded, known, ""), reasons=reasons)
    if recorded.attrs.get(STOPPED) is not True and observed.status is Status.STOPPED:
        yield _drift(DriftKind.STOPPED, recorded, known, observed.detail or "is stopped")
    if observed.status is Status.FAILED:
        yield _drift(DriftKind.UNHEALTHY, recorded, known, observed.detail or "has failed")
    elif observed.healthy is False:
        yield _drift(DriftKind.UNHEALTHY, recorded, known, observed.detail or "is reported unhealthy")


def _changed(recorded: Recorded, observed: Observed, known: _Known) -> Iterator[Reason]:
    current = current_attrs(recorded.attrs, observed.attrs, known.key)
    if current is not recorded.attrs:
        for path, before, after in differences(recorded.attrs, current, known.key):
            yield Reason(path, before=before, after=after, at=known.at(recorded, path))
    if recorded.attrs.get(STOPPED) is True and observed.status is Status.RUNNING:
        yield Reason(STOPPED, before=True, after=False, at=known.at(recorded, STOPPED))


def _drift(kind: DriftKind, recorded: Recorded, known: _Known, text: str) -> Drift:
    at = known.at(recorded)
    return Drift(kind, recorded.address, recorded.provider, (), recorded.remote_id, text, at)


def loss(ephemeral: bool, detail: str) -> str:
    """How an instance that is gone went, as far as it is known."""
    text = "was reclaimed by its provider" if ephemeral else "was deleted outside of gpuplan"
    return f"{text}: {detail}" if detail else text


def _orphan(provider: str, orphan: Observed) -> Drift:
    address: Address | None = None if orphan.mark is None else orphan.mark.address
    text = "carries our mark and is in no state"
    return Drift(DriftKind.ORPHANED, address, provider, remote_id=orphan.remote_id, text=text)
