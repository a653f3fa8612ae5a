"""What the refresh can say of each recorded instance, and what stands in the way of saying anything.

Called by `planner`. Only a confirmed absence counts as one; whatever could not be seen is an error, never a create.
"""

from collections.abc import Mapping
from typing import NamedTuple

from gpuplan.core.address import Address
from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import Configuration
from gpuplan.core.diagnostics import At, Diagnostic, Label, Sink
from gpuplan.core.observed import GONE, Observed, Survey
from gpuplan.core.plan import PlanOptions
from gpuplan.core.state import Recorded


class Sight(NamedTuple):
    """One instance as it was seen; neither observed nor absent: nobody looked."""

    observed: Observed | None
    absent: bool


class Lookout:
    """Reads the survey, and collects per provider why instances there cannot be planned."""

    def __init__(
        self,
        configuration: Configuration,
        survey: Survey,
        capabilities: Mapping[str, Capabilities],
        options: PlanOptions,
    ) -> None:
        self._configuration = configuration
        self._survey = survey
        self._capabilities = capabilities
        self._refreshed = options.refreshed
        self._unknown: dict[str, list[Address]] = {}
        self._unseen: dict[str, list[Address]] = {}
        self._strange: dict[tuple[str, str, str], list[Address]] = {}

    def see(self, origin: Address, record: Recorded) -> Sight | None:
        """`origin` is the address the survey knows; None: an error stands in the way, and is remembered."""
        provider = record.provider
        if provider not in self._configuration.providers or provider not in self._capabilities:
            self._unknown.setdefault(provider, []).append(origin)
            return None
        account = self._survey.accounts.get(provider)
        if account and record.account and account != record.account:
            self._strange.setdefault((provider, record.account, account), []).append(origin)
            return None
        if not self._refreshed:
            return Sight(None, absent=False)
        if provider in self._survey.unreachable or origin not in self._survey.instances:
            self._unseen.setdefault(provider, []).append(origin)
            return None
        observed = self._survey.instances[origin]
        return Sight(observed, absent=observed is None or observed.status in GONE)

    def report(self, sink: Sink) -> None:
        """Hand over what stood in the way, one finding per provider."""
        for provider, addresses in sorted(self._unknown.items()):
            sink.add(self._removed(provider, addresses))
        for (provider, recorded, actual), addresses in sorted(self._strange.items()):
            sink.add(self._mismatch(provider, recorded, actual, addresses))
        for provider, addresses in sorted(self._unseen.items()):
            sink.add(self._unreachable(provider, addresses))

    def _removed(self, provider: str, addresses: list[Address]) -> Diagnostic:
        return Diagnostic(
            id="provider-removed",
            summary=f"the provider `{provider}` is gone from the spec, but the state has instances there",
            facts=(counted(addresses), "nothing was sent to any provider"),
            hint=f"write `{provider}` under `providers:` again, with `retired: true` to create nothing new there",
        )

    def _mismatch(self, provider: str, recorded: str, actual: str, addresses: list[Address]) -> Diagnostic:
        return Diagnostic(
            id="account-mismatch",
            summary=f"the credentials of `{provider}` belong to another account than the recorded instances",
            labels=self._at(provider),
            facts=(counted(addresses), f"they live in account {recorded}", f"the credentials are of account {actual}"),
            hint=f"use the credentials of account {recorded}, or write the other account as a provider of its own",
        )

    def _unreachable(self, provider: str, addresses: list[Address]) -> Diagnostic:
        error = self._survey.unreachable.get(provider)
        why = {self._survey.unseen[address]: None for address in addresses if address in self._survey.unseen}
        if error is not None:
            why = dict.fromkeys((str(error), *(fact for item in error.diagnostics for fact in item.facts)))
        return Diagnostic(
            id="provider-unreachable",
            summary=f"`{provider}` could not be asked about its instances",
            labels=self._at(provider),
            facts=(*why, counted(addresses), "what could not be seen is not taken for gone"),
            hint="plan again when it answers, or leave its instances out with --exclude",
        )

    def _at(self, provider: str) -> tuple[Label, ...]:
        return (Label(At(self._configuration.providers[provider].path, key=True), "this account"),)


def counted(addresses: list[Address]) -> str:
    """The instances a finding is about, in one line."""
    if len(addresses) == 1:
        return f"it is about {addresses[0]}"
    return f"it is about {len(addresses)} instances, {addresses[0]} among them"
