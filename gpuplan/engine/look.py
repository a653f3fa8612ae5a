"""What one listing says, by all the names an object may be asked for.

Called by `refresh`, `recover` and `readiness`. An id that is missing here is not yet an absence.
"""

from collections.abc import Set

from gpuplan.core.observed import Observed
from gpuplan.core.ports import Listed


class Seen:
    """The answer to one `list`."""

    def __init__(self, listed: Listed) -> None:
        self.objects = listed.objects
        self.unseen = listed.unseen
        self.why = listed.why or "this part of the account could not be looked at"
        self._by_id: dict[str, Observed] = {}
        self._by_earlier_id: dict[str, Observed] = {}
        self._by_token: dict[str, list[Observed]] = {}
        for observed in listed.objects:
            self._by_id[observed.remote_id] = observed
            if observed.supersedes:
                self._by_earlier_id[observed.supersedes] = observed
            if observed.mark is not None:
                self._by_token.setdefault(observed.mark.token, []).append(observed)

    def find(self, remote_id: str, token: str = "") -> Observed | None:
        """The object of that id, or the one it became: a provider may move it, and a creation in steps renames it."""
        observed = self._by_id.get(remote_id) or self._by_earlier_id.get(remote_id)
        if observed is None and token:
            twins = self._by_token.get(token)
            observed = twins[0] if twins else None
        return observed

    def carrying(self, token: str, witness: str, claimed: Set[str]) -> list[Observed]:
        """All objects of one create attempt; more than one if a request was carried out twice.

        Several objects may have the same witness: those with a `claimed` id are known to be others.
        """
        marked = self._by_token.get(token, [])
        if marked or not witness:
            return marked
        alike = (observed for observed in self.objects if observed.witness == witness)
        return [observed for observed in alike if observed.remote_id not in claimed]

    def is_hidden(self, remote_id: str) -> bool:
        """Whether the id lies where nobody could look."""
        return bool(self.unseen) and remote_id.startswith(self.unseen)
