"""Inside a pod: commands and ports over a WebSocket, as the kubelet offers them. What runs there runs on this machine,
in a folder for each pod, as the user who runs the emulator.
"""

import asyncio
import base64
import contextlib
import json
import os
import signal
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from gpuplan.emulators.http import Response, Session, Socket
from gpuplan.emulators.kubernetes_answers import Refused, status
from gpuplan.emulators.kubernetes_fields import Tree
from gpuplan.emulators.kubernetes_store import Cluster, Stored
from gpuplan.emulators.kubernetes_writes import Place

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
EXEC_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
FORWARD_PROTOCOLS = ("v4.channel.k8s.io",)
_BLOCK = 65536


def execute(place: Place) -> Response:
    """Run a command in a container. Raises Refused."""
    pod = _running(place)
    request = place.request
    names = [container["name"] for container in pod.spec["containers"]]
    name = request.one("container") or names[0]
    if name not in names:
        raise Refused(400, f"container {name} is not valid for pod {pod.name}")
    words = list(request.query.get("command", ()))
    if not words:
        raise Refused(400, "you must specify at least one command for the container")
    environment = _environment(place.cluster, pod)
    return _upgraded(place, EXEC_PROTOCOLS, partial(_run, pod, words, environment))


def forward(place: Place) -> Response:
    """Carry bytes to ports of a pod. Raises Refused."""
    _running(place)
    ports = [int(port) for text in place.request.query.get("ports", ()) for port in text.split(",") if port.isdigit()]
    if not ports:
        raise Refused(400, 'query parameter "ports" is required')
    return _upgraded(place, FORWARD_PROTOCOLS, partial(_carry, ports))


def _running(place: Place) -> Stored:
    pod = place.stored
    if not pod.spec.get("nodeName"):
        raise Refused(400, f"pod {pod.name} does not have a host assigned")
    if pod.status.get("phase") in ("Succeeded", "Failed"):
        raise Refused(400, f"cannot exec into a container in a completed pod; current phase is {pod.status['phase']}")
    state = (pod.status.get("containerStatuses") or [{}])[0].get("state", {})
    if "running" not in state:
        name = pod.spec["containers"][0]["name"]
        raise Refused(500, f'unable to upgrade connection: container not found ("{name}")')
    return pod


def _upgraded(place: Place, spoken: Sequence[str], session: Session) -> Response:
    if place.request.headers.get("upgrade", "").lower() != "websocket":
        raise Refused(400, "Upgrade request required")
    offered = [word.strip() for word in place.request.headers.get("sec-websocket-protocol", "").split(",")]
    agreed = next((protocol for protocol in offered if protocol in spoken), None)
    if agreed is None:
        raise Refused(403, f"unable to upgrade: no protocol of {', '.join(offered)} is spoken here")
    return Response(101, None, {"Sec-WebSocket-Protocol": agreed}, session=session)


async def _run(pod: Stored, words: Sequence[str], environment: Mapping[str, str], socket: Socket, folder: Path) -> None:
    home = folder / f"kubernetes-{pod.uid}"
    home.mkdir(exist_ok=True)
    pipes = asyncio.subprocess.PIPE
    try:
        child = await asyncio.create_subprocess_exec(
            *words,
            cwd=home,
            env={**os.environ, **environment, "HOME": str(home), "PWD": str(home)},
            stdin=pipes,
            stdout=pipes,
            stderr=pipes,
            start_new_session=True,
        )
    except OSError as exc:
        told = f"error executing command in container: {exc.strerror}: {words[0]}"
        await socket.send(bytes([ERROR]) + json.dumps(status(500, told)).encode())
        return
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    feeding = asyncio.ensure_future(_feed(socket, child.stdin))
    try:
        await asyncio.gather(_send_all(socket, child.stdout, STDOUT), _send_all(socket, child.stderr, STDERR))
        code = await child.wait()
        await socket.send(bytes([ERROR]) + json.dumps(_outcome(code)).encode())
    finally:
        feeding.cancel()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


async def _feed(socket: Socket, stdin: asyncio.StreamWriter) -> None:
    """What the client says goes to the command; its end is the end of the command's input."""
    with contextlib.suppress(ConnectionError):
        while (message := await socket.receive()) is not None:
            if message[:1] == bytes([STDIN]):
                stdin.write(message[1:])
                await stdin.drain()
            elif message == bytes([CLOSE, STDIN]):
                stdin.close()
    stdin.close()


async def _send_all(socket: Socket, stream: asyncio.StreamReader, channel: int) -> None:
    while block := await stream.read(_BLOCK):
        await socket.send(bytes([channel]) + block)


def _outcome(code: int) -> Tree:
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    shown = code if code > 0 else 128 - code
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {shown}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(shown)}]},
    }


async def _carry(ports: Sequence[int], socket: Socket, folder: Path) -> None:
    """A data and an error channel for each port; the first message on each names the port."""
    writers: dict[int, asyncio.StreamWriter] = {}
    readers: list[asyncio.Task[None]] = []
    for index, port in enumerate(ports):
        for channel in (2 * index, 2 * index + 1):
            await socket.send(bytes([channel]) + port.to_bytes(2, "little"))
        try:
            reader, writers[2 * index] = await asyncio.open_connection("127.0.0.1", port)
        except OSError as exc:
            told = f"failed to connect to localhost:{port} inside the pod: {exc.strerror}"
            await socket.send(bytes([2 * index + 1]) + told.encode())
            continue
        readers.append(asyncio.ensure_future(_send_all(socket, reader, 2 * index)))
    hearing = asyncio.ensure_future(_hear(socket, writers))
    try:
        await asyncio.wait([hearing, *readers], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (hearing, *readers):
            task.cancel()
        for writer in writers.values():
            writer.close()


async def _hear(socket: Socket, writers: Mapping[int, asyncio.StreamWriter]) -> None:
    with contextlib.suppress(ConnectionError):
        while (message := await socket.receive()) is not None:
            if message and message[0] in writers:
                writers[message[0]].write(message[1:])
                await writers[message[0]].drain()


def _environment(cluster: Cluster, pod: Stored) -> dict[str, str]:
    """What a container finds in its environment."""
    found = {"HOSTNAME": pod.name, "KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    for each in pod.spec["containers"][0].get("env") or ():
        source = each.get("valueFrom") or {}
        if "secretKeyRef" in source:
            secret = cluster.find("Secret", pod.namespace, source["secretKeyRef"]["name"])
            encoded = (secret.tree.get("data") or {}).get(source["secretKeyRef"]["key"], "") if secret else ""
            found[each["name"]] = base64.b64decode(encoded).decode()
        elif "fieldRef" in source:
            found[each["name"]] = _field(pod, source["fieldRef"]["fieldPath"])
        else:
            found[each["name"]] = str(each.get("value", ""))
    return found


def _field(pod: Stored, path: str) -> str:
    if path.startswith("metadata.labels['"):
        return str((pod.meta.get("labels") or {}).get(path[len("metadata.labels['") : -2], ""))
    here: object = pod.tree
    for step in path.split("."):
        here = here.get(step) if isinstance(here, dict) else None
    return "" if here is None else str(here)
