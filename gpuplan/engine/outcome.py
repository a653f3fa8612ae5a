"""What bounds a run, what can end it early, and what came of it.

`workflow` makes `Limits` and `Stop`, hands them to `executor.execute`, and reports the `RunOutcome`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gpuplan.core.errors import GpuplanError
from gpuplan.core.offers import FailedPlace
from gpuplan.core.plan import Operation


@dataclass(frozen=True, slots=True)
class Limits:
    """`parallelism` and `per_provider` count operations that are at work; those that only wait for an object to get
    ready take no place. `deadline_seconds` after the start nothing new begins."""

    parallelism: int = 32
    deadline_seconds: float | None = None
    per_provider: Mapping[str, int] = field(default_factory=dict)
    """By provider block, where the block says less than the provider's capabilities."""


class Stop:
    """Ctrl-C, once and twice. Call it from within the event loop."""

    def __init__(self) -> None:
        self.requested = False
        self.immediate = False
        self.changed: Callable[[], None] = lambda: None
        """Set by the executor, to be woken."""

    def request(self) -> None:
        """Nothing new starts; what is in flight is awaited."""
        self.requested = True
        self.changed()

    def now(self) -> None:
        """Leave what is in flight. Its intents stay open; the next run settles them."""
        self.requested = self.immediate = True
        self.changed()


@dataclass(frozen=True, slots=True)
class Failed:
    operation: Operation
    error: GpuplanError


@dataclass(frozen=True, slots=True)
class Skipped:
    operation: Operation
    because: str
    """The id of the operation it needed, which failed or was itself skipped."""


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """What a run did. `added`, `changed` and `destroyed` count objects; a replacement adds one and destroys one."""

    done: tuple[Operation, ...]
    failed: tuple[Failed, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    unstarted: tuple[Operation, ...] = ()
    """Left out because the run was interrupted or its deadline passed."""
    left: tuple[Operation, ...] = ()
    """In flight when the run was told to leave at once."""
    open: tuple[int, ...] = ()
    """Intents whose outcome is not known; the next run settles them."""
    added: int = 0
    changed: int = 0
    destroyed: int = 0
    interrupted: bool = False
    deadline_passed: bool = False
    seconds: float = 0
    output_errors: tuple[GpuplanError, ...] = ()
    """Why outputs could not be computed."""
    failed_places: tuple[FailedPlace, ...] = ()
    """Where a node could not be had: the next plan goes elsewhere first."""

    @property
    def complete(self) -> bool:
        """Whether everything that was planned has been done."""
        return not (self.failed or self.skipped or self.unstarted or self.left or self.open or self.output_errors)
