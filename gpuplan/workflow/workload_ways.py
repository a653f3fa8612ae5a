"""The channels that services and jobs of one account are kept over. Made by `accounts` for `providers.workloads`."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gpuplan.core.errors import Conflict, Failure, ProviderError
from gpuplan.core.observed import Observed
from gpuplan.core.ports import Channel, HasChannel, HasSsh, Provider
from gpuplan.core.secret import Redactor


@dataclass(slots=True)
class NodeWays:
    """Implements `providers.workloads_units.Ways`: one channel per node, kept until the account is closed."""

    name: str
    provider: Provider
    environ: Mapping[str, str]
    redactor: Redactor
    _open: dict[str, Channel] = field(default_factory=dict)
    _opening: dict[str, asyncio.Lock] = field(default_factory=dict)
    _client: "object | None" = None

    @asynccontextmanager
    async def open(self, node: Observed) -> AsyncIterator[Channel]:
        async with self._opening.setdefault(node.remote_id, asyncio.Lock()):
            channel = self._open.get(node.remote_id)
            if channel is None:
                channel = self._open[node.remote_id] = await self._opened(node)
        try:
            yield channel
        except ProviderError:
            # It may be the connection that is broken: the next who comes gets a new one.
            if self._open.get(node.remote_id) is channel:
                del self._open[node.remote_id]
            await channel.close()
            raise

    async def _opened(self, node: Observed) -> Channel:
        if isinstance(self.provider, HasChannel):
            return await self.provider.channel(node.remote_id)
        from gpuplan.net.ssh import HostName, SshClient

        assert isinstance(self.provider, HasSsh)
        target = self.provider.ssh_target(node)
        if target is None:
            fact = "the node has no address that SSH reaches"
            raise Conflict(Failure(self.name, f"reach node {node.remote_id}", facts=(fact,)))
        if self._client is None:
            self._client = SshClient(self.environ, redact=self.redactor)
        assert isinstance(self._client, SshClient)
        account = (await self.provider.health()).id
        host = HostName.of_node(self.name, node.remote_id, account, node.remote_id, None)
        return await self._client.open(target, host, workspace=self.provider.capabilities.workspace_path)

    async def close(self) -> None:
        for channel in self._open.values():
            await channel.close()
        self._open.clear()
        if self._client is not None:
            from gpuplan.net.ssh import SshClient

            assert isinstance(self._client, SshClient)
            await self._client.close()
