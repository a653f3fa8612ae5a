"""Compare-and-set on lineage and serial, the same for every backend."""

from gpuplan.core.diagnostics import Diagnostic
from gpuplan.core.errors import LineageMismatch, StateStale
from gpuplan.core.state import State


def check_successor(state: State, stored: tuple[str, int] | None) -> None:
    """Whether `state` may replace what is stored (lineage and serial): raises LineageMismatch or StateStale."""
    if stored is not None:
        check_base(state.lineage, state.serial - 1, stored)


def check_base(lineage: str, serial: int, stored: tuple[str, int] | None) -> None:
    """Whether a run that began at this lineage and serial still continues what is stored."""
    if stored is None:
        raise _moved(serial, "the state is gone")
    stored_lineage, stored_serial = stored
    if stored_lineage != lineage:
        raise LineageMismatch(
            diagnostics=(
                Diagnostic(
                    id=LineageMismatch.id,
                    summary="this state is another one",
                    facts=(f"it has lineage {stored_lineage}, this run works on {lineage}", "nothing was changed"),
                    hint="check which folder, workspace and backend are in use",
                ),
            )
        )
    if stored_serial != serial:
        raise _moved(serial, f"the state is now at {stored_serial}")


def _moved(serial: int, now: str) -> StateStale:
    return StateStale(
        diagnostics=(
            Diagnostic(
                id=StateStale.id,
                summary=f"this run began at serial {serial} of the state, and someone else has written since",
                facts=(now, "nothing was changed"),
                hint="make a new plan and read it again",
                commands=("gpuplan plan",),
            ),
        )
    )
