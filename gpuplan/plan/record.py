"""What the state says once it accepts what the refresh saw.

Called by `planner`; the result is `Change.refreshed`, written by apply before anything else happens to the instance.
"""

from dataclasses import replace

from gpuplan.core.address import Address
from gpuplan.core.desired import Desired
from gpuplan.core.observed import Observed, Status
from gpuplan.core.seal import seal_attrs
from gpuplan.core.state import Phase, Recorded
from gpuplan.plan.compare import current_attrs


def refreshed(prior: Recorded, observed: Observed | None, desired: Desired | None, key: bytes) -> Recorded:
    """The record brought up to date; the very same object when nothing is new.

    `desired` brings what is gpuplan's own to remember: dependencies, and the order of a replacement.
    """
    record = prior
    if observed is not None:
        record = _seen(record, observed, key)
    if desired is not None:
        create_first = desired.settings.lifecycle.create_before_destroy
        if record.depends_on != desired.depends_on or record.create_before_destroy != create_first:
            record = replace(record, depends_on=desired.depends_on, create_before_destroy=create_first)
    return record


def moved(prior: Recorded, address: Address) -> Recorded:
    """The record under its new name."""
    return prior if prior.address == address else replace(prior, address=address)


def _seen(prior: Recorded, observed: Observed, key: bytes) -> Recorded:
    attrs = current_attrs(prior.attrs, observed.attrs, key)
    if attrs is not prior.attrs:
        attrs = seal_attrs(attrs, key=key, address=prior.address)
    facts = prior.facts
    if any(name not in facts or facts[name] != fact for name, fact in observed.facts.items()):
        facts = {**facts, **observed.facts}
    phase = prior.phase
    if phase is Phase.PENDING and observed.status is Status.RUNNING and not prior.attrs.get("setup"):
        phase = Phase.READY
    same = attrs is prior.attrs and facts is prior.facts and phase is prior.phase
    if same and observed.remote_id == prior.remote_id:
        return prior
    return replace(prior, attrs=attrs, facts=facts, phase=phase, remote_id=observed.remote_id)
