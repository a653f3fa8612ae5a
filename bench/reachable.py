"""`bench.instant`, with nodes that one SSH server of this machine stands in for. Its port is in `BENCH_SSH_PORT`.

Used by name in the spec that `bench.setups` writes: a run pays for the logins and the commands, and for no provider.
"""

from dataclasses import replace

from pydantic import BaseModel

from bench.instant import CAPABILITIES as INSTANT
from bench.instant import Instant, Options
from gpuplan.core.capabilities import Capabilities, KindCapabilities, Mutability
from gpuplan.core.desired import Kind
from gpuplan.core.observed import Observed
from gpuplan.core.ports import OpenContext, ProviderType, SshTarget

PORT = "BENCH_SSH_PORT"
CAPABILITIES = replace(
    INSTANT,
    kinds={Kind.NODE: KindCapabilities({"setup": Mutability.REPLACE})},
    ssh=True,
    workspace_path="workspace",
)


class Reachable(Instant):
    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    def ssh_target(self, observed: Observed, member: int | None = None) -> SshTarget | None:
        return SshTarget("127.0.0.1", self._port)


def _capabilities(_: BaseModel) -> Capabilities:
    return CAPABILITIES


def _open(_: BaseModel, context: OpenContext) -> Reachable:
    return Reachable(int(context.environ[PORT]))


PROVIDER = ProviderType(
    name="reachable", title="Nothing, at once, with SSH", options=Options, capabilities=_capabilities, open=_open
)
