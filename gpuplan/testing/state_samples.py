"""Small states, records and entries for tests of whatever keeps or edits a state."""

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.ports import Clock
from gpuplan.core.state import Begun, Intent, LockInfo, Noted, Phase, Recorded, State
from gpuplan.state.lock import lock_request
from gpuplan.testing.clock import FakeClock

PROJECT = "conformance"


def node(number: int) -> Recorded:
    """An instance to record."""
    return Recorded(
        address=Address("clusters", "train", None, number),
        kind=Kind.NODE,
        provider="cloud",
        account="acct",
        remote_id=f"n-{number}",
        token=f"token{number}",
        attrs={"gpu": "H100-80GB:8"},
        facts={"public_ip": "10.0.0.1"},
        depends_on=frozenset({Address("volumes", "data")}),
        created_at=FakeClock().now(),
        phase=Phase.READY,
    )


def noted(number: int) -> Noted:
    return Noted(node(number).address, node(number))


def begun(seq: int) -> Begun:
    draft = node(seq)
    return Begun(
        Intent(
            seq, f"op{seq}", "create", draft.address, draft.kind, "cloud", "acct", draft.created_at, "tok", "", draft
        )
    )


def fresh(serial: int = 0, lineage: str = "lineage1") -> State:
    return State(lineage=lineage, serial=serial, key=b"k" * 32, project=PROJECT)


def asks(clock: Clock, operation: str = "apply") -> LockInfo:
    return lock_request(clock, operation)
