"""The Console's proxy to the providers of the emulated Akash: their logs and events, over a WebSocket."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from gpuplan.core.values import JsonValue
from gpuplan.emulators import akash_life as life
from gpuplan.emulators.akash_market import hosts
from gpuplan.emulators.http import Json, Request, Response, Routes, Socket
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import Thing

PROXY = Routes()
NO_LEASE = 4001
_PATH = re.compile(r"/lease/(?P<dseq>\d+)/\d+/\d+/(?P<what>logs|kubeevents)")


@PROXY.on("GET", "/@proxy", is_open=True)
def converse(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    async def session(socket: Socket, folder: Path) -> None:
        message = await socket.receive()
        if message is None:
            return
        told = _answers(site, json.loads(message))
        is_followed = told.pop("follow", False)
        lines = told.pop("lines", [])
        assert isinstance(lines, list)
        for line in lines:
            await _say(socket, {"type": "websocket", "message": line})
        await _say(socket, {"type": "ping"})
        await socket.receive()
        if not is_followed:
            await _say(socket, told)
        else:
            # Nothing more is ever printed; it goes on until nobody listens.
            await socket.receive()

    return Response(101, None, session=session)


async def _say(socket: Socket, told: Mapping[str, JsonValue]) -> None:
    await socket.send(json.dumps(told).encode())


def _answers(site: Site, asked: Mapping[str, JsonValue]) -> Json:
    """The lines, whether there may be more, and how it ends."""
    auth = asked.get("auth")
    token = str(auth.get("token", "")) if isinstance(auth, dict) else ""
    url = urlsplit(str(asked.get("url", "")))
    match, words = _PATH.fullmatch(url.path), token.split(".")
    if match is None or url.scheme != "https":
        return {"error": "Invalid URL"}
    if len(words) != 3:
        return {"error": "tokenExpired"}
    thing = site.thing(life.NODE, match["dseq"], words[1])
    lease = life.living_lease(thing) if thing else None
    if thing is None or lease is None or hosts()[lease["provider"]].name != url.hostname:
        return {"closed": True, "code": NO_LEASE, "reason": "lease not found"}
    query = parse_qs(url.query)
    lines = _logs(site, thing) if match["what"] == "logs" else _events(site, thing)
    tail = int(query.get("tail", ["-1"])[0])
    kept: list[JsonValue] = [json.dumps(line) for line in (lines if tail < 0 else lines[-tail:] if tail else [])]
    is_followed = query.get("follow", ["false"])[0] == "true"
    return {"closed": True, "code": 1000, "reason": "", "lines": kept, "follow": is_followed}


def _logs(site: Site, thing: Thing) -> list[Json]:
    if not life.is_up(site, thing):
        return []
    pod = f"node-{thing.id[-8:]}"
    return [{"name": pod, "message": text} for text in ("container started", "sshd listening on 22", "ready")]


def _events(site: Site, thing: Thing) -> list[Json]:
    told = [("Normal", "Scheduled", "Successfully assigned"), ("Normal", "Pulling", "Pulling image")]
    if not life.is_pullable(site, thing):
        told.append(("Warning", "ErrImagePull", "manifest unknown"))
    elif life.is_up(site, thing):
        told.append(("Normal", "Started", "Started container node"))
    pod: Json = {"kind": "Pod", "namespace": thing.id, "name": "node"}
    return [{"type": kind, "reason": reason, "note": note, "object": pod} for kind, reason, note in told]
