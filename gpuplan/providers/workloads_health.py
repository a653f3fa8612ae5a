"""Whether a service answers: one question over the channel at each look. Called by `workloads`."""

import asyncio
from collections.abc import Mapping, Sequence

from gpuplan.core.errors import ProviderError
from gpuplan.core.ports import Channel
from gpuplan.core.units import parse_duration
from gpuplan.core.values import Value

SECONDS = 5.0
"""How long one answer may take where the spec does not say."""


async def is_healthy(health: Value, ports: Sequence[int], channel: Channel) -> tuple[bool, str]:
    """The answer, and what speaks against it."""
    assert isinstance(health, Mapping)
    timeout = health.get("timeout")
    seconds = parse_duration(timeout) if isinstance(timeout, str) else SECONDS
    try:
        async with asyncio.timeout(seconds):
            return await _ask(health, ports, channel)
    except TimeoutError:
        return False, f"no answer to its health check in {seconds:g} s"
    except (OSError, ProviderError) as error:
        return False, f"its health check is not answered: {error}"


async def _ask(health: Mapping[str, Value], ports: Sequence[int], channel: Channel) -> tuple[bool, str]:
    command, path, asked = health.get("command"), health.get("http"), health.get("port")
    if isinstance(command, str):
        status = (await channel.run(command, env={})).status
        return status == 0, "" if status == 0 else f"its health check ended with status {status}"
    port = asked if isinstance(asked, int) else next(iter(ports), 0)
    if not port:
        return False, "its health check names no port"
    async with channel.forward(port) as local:
        reader, writer = await asyncio.open_connection("127.0.0.1", local)
        try:
            if not isinstance(path, str):
                return True, ""
            writer.write(f"GET {path} HTTP/1.0\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
            words = (await reader.readline()).split()
        finally:
            writer.close()
    code = words[1].decode("ascii", "replace") if len(words) > 1 else "nothing"
    return code.startswith("2"), "" if code.startswith("2") else f"`{path}` answers {code}"
