"""What a provider of Akash tells of a lease by itself: logs and events, through the Console's proxy.

The proxy is there because providers have certificates that nobody else has signed.
"""

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from typing import Any
from urllib.parse import urlencode

from gpuplan.core.errors import Failure, ProtocolMismatch, Unavailable
from gpuplan.net.api import Api
from gpuplan.providers import akash_tables as tables
from gpuplan.providers.akash_sdl import Body
from gpuplan.providers.akash_wire import ProviderRow, Token

TOKEN_SECONDS = 1800
EVERYTHING = -1
EVENTS_SECONDS = 10
TROUBLES = ("errimagepull", "imagepullbackoff", "invalidimagename", "failedscheduling", "backoff", "failed")


class Gateway:
    """The providers of one account's leases."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def logs(
        self, lease: str, provider: str, *, follow: bool, tail: int | None, to: str
    ) -> AsyncGenerator[str, None]:
        query = {"follow": str(follow).lower(), "tail": EVERYTHING if tail is None else tail, "service": "node"}
        async with aclosing(self._hear(f"lease/{lease}/logs?{urlencode(query)}", provider, to)) as heard:
            async for said in heard:
                yield self._api.redact(str(said.get("message", ""))).rstrip("\r\n")

    async def trouble(self, lease: str, provider: str) -> str:
        """Why a container does not run, by the events so far: a status never tells. Empty where nothing says."""
        # It takes its time to import, and few nodes ever get here.
        import asyncio

        last, to = "", "ask why it does not run"
        # A provider may hold on to us for more events to come.
        with suppress(TimeoutError):
            async with (
                asyncio.timeout(EVENTS_SECONDS),
                aclosing(self._hear(f"lease/{lease}/kubeevents?follow=false", provider, to)) as heard,
            ):
                async for said in heard:
                    if str(said.get("reason", "")).lower() in TROUBLES:
                        last = self._api.redact(f"{said['reason']}: {said.get('note', '')}")
        return last

    async def _hear(self, path: str, provider: str, to: str) -> AsyncGenerator[Mapping[str, Any], None]:
        url = f"{await self._host(provider, to)}/{path}"
        ask: Body = {
            "type": "websocket",
            "url": url,
            "providerAddress": provider,
            "auth": {"type": "jwt", "token": await self._token(provider, to)},
        }
        async with self._api.socket("/", to=to, protocols=(), host=tables.PROXY) as socket:
            await socket.send(json.dumps(ask).encode())
            while (message := await socket.receive()) is not None:
                said = self._read(message, to)
                if said.get("type") == "ping":
                    await socket.send(b'{"type":"pong"}')
                elif said.get("error"):
                    raise Unavailable(Failure(self._api.provider, to, str(said["error"])))
                elif said.get("closed"):
                    self._check_end(said, to)
                    return
                elif said.get("message"):
                    yield self._read(said["message"], to)

    def _read(self, message: bytes | str, to: str) -> Mapping[str, Any]:
        with suppress(ValueError):
            said = json.loads(message)
            if isinstance(said, dict):
                return said
        raise ProtocolMismatch(Failure(self._api.provider, to, "a message that is no JSON object"))

    def _check_end(self, said: Mapping[str, Any], to: str) -> None:
        code = said.get("code")
        if isinstance(code, int) and code >= 4000:
            raise Unavailable(Failure(self._api.provider, to, str(said.get("reason", "")), code=str(code)))

    async def _host(self, provider: str, to: str) -> str:
        async def read() -> str:
            query = {"addresses": provider}
            rows = await self._api.call("GET", tables.PROVIDERS, query=query, answer=tuple[ProviderRow, ...], to=to)
            return next((row.host_uri for row in rows if row.owner == provider), "").rstrip("/")

        host = await self._api.remembered(f"host of {provider}", read)
        if not host:
            raise Unavailable(Failure(self._api.provider, to, f"nobody knows where {provider} is"))
        return host

    async def _token(self, provider: str, to: str) -> str:
        """It opens what one provider tells of our leases, and nothing else."""
        scope: Body = {"provider": provider, "access": "scoped", "scope": ["status", "logs", "events"]}
        body: Body = {"data": {"ttl": TOKEN_SECONDS, "leases": {"access": "granular", "permissions": [scope]}}}
        return (await self._api.call("POST", tables.TOKENS, json=body, answer=Token, at="data", to=to)).token
