"""One local node over its life: start its supervisor, steer it by signals, read what it says. Used by `local`.

Everything here blocks, briefly, and is safe to repeat after a crash at any line.
"""

import base64
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from gpuplan.core.desired import Kind
from gpuplan.core.observed import Observed, Status
from gpuplan.core.values import JsonValue
from gpuplan.providers import local_supervisor
from gpuplan.providers.local_pids import Pid, kill_marked
from gpuplan.providers.local_store import Damaged, NodeFile, StatusFile, Store, read_model, read_node, write_model
from gpuplan.providers.local_supervisor import LOCK, LOG, NODE, STATUS, WORKSPACE

NODE_ID = "GPUPLAN_NODE_ID"
"""Every process of a node has it in its environment: that is how those are found that a killed supervisor left."""
ELSEWHERE = "its supervisor runs in another container"
# Most nodes are gone after a few milliseconds; for the others the engine asks again.
_PATIENCE_MILLISECONDS = 250


class Busy(Exception):
    """The node is between two states; what was asked is possible in a moment."""


def observe(folder: Path) -> Observed | None:
    """What a node is now; None if it is gone."""
    try:
        found = _look(folder)
    except Damaged as exc:
        return Observed(Kind.NODE, folder.name, Status.UNKNOWN, detail=str(exc))
    return None if found is None else _to_observed(folder, *found)


def _look(folder: Path) -> tuple[NodeFile, StatusFile | None, bool] | None:
    """What is written of a node, and whether its supervisor lives."""
    dead: Pid | None = None
    while found := read_node(folder):
        node, status = found
        if status is None or status.keeper == dead:
            return node, status, False
        if status.keeper.is_alive:
            return node, status, True
        # It may have written its last word after this was read, and only then have ended: read again.
        dead = status.keeper
    return None


def _to_observed(folder: Path, node: NodeFile, status: StatusFile | None, alive: bool) -> Observed:
    state, detail = _status(node, status, alive)
    facts: dict[str, JsonValue] = {
        "name": node.name,
        "hostname": os.uname().nodename,
        "public_ip": "127.0.0.1",
        "private_ip": "127.0.0.1",
        "folder": str(folder),
        "workspace": str(folder / WORKSPACE),
        "log": str(folder / LOG),
        "gpu_devices": list(node.gpus),
    }
    if status is not None and state is Status.RUNNING:
        facts["pid"] = (status.command or status.keeper).pid
    return Observed(
        Kind.NODE, folder.name, state, attrs=dict(node.attrs), facts=facts, mark=node.mark.mark, detail=detail
    )


def _status(node: NodeFile, status: StatusFile | None, alive: bool) -> tuple[Status, str]:
    if status is None:
        return (Status.STOPPED, "") if node.stopped else (Status.STARTING, "its supervisor has not been started")
    match status.phase:
        case "stopped":
            return Status.STOPPED, ""
        case "ended":
            return Status.FAILED, f"its command {_ending(status.exit)}"
    if status.keeper.is_out_of_sight:
        return Status.UNKNOWN, ELSEWHERE
    if not alive:
        return Status.FAILED, "its supervisor is gone"
    match status.phase:
        case "stopping":
            return Status.STOPPING, ""
        case "restarting":
            return Status.STARTING, f"its command {_ending(status.exit)} and is started again"
        case "running":
            if status.generation != node.generation:
                return Status.STARTING, "it restarts with what has changed"
            return Status.RUNNING, f"restarted {status.restarts} times" if status.restarts else ""


def _ending(code: int | None) -> str:
    if code is None:
        return "is being ended"
    if code >= 0:
        return f"exited {code}"
    known = -code in set(signal.Signals)
    return f"was killed by {signal.Signals(-code).name if known else f'signal {-code}'}"


def bring_up(folder: Path, environ: Mapping[str, str]) -> None:
    """Make sure that a node that should run has its supervisor, and that it runs the newest generation."""
    found = read_node(folder)
    if found is None:
        return
    node, status = found
    if status is None and not node.stopped:
        _launch(folder, environ)
    elif status is not None and status.phase == "running" and status.generation != node.generation:
        status.keeper.send(signal.SIGHUP)


def change(folder: Path, node: NodeFile) -> None:
    """Put `node` in the place of what was asked for; the command restarts if its generation grew."""
    before = read_node(folder)
    write_model(folder / NODE, node)
    if before is not None and before[1] is not None and before[0].generation != node.generation:
        before[1].keeper.send(signal.SIGHUP)


def stop(folder: Path) -> None:
    """Begin to stop: the folder stays, the share of GPUs too."""
    found = _reachable(folder)
    if found is None:
        return
    node, status = found
    if status is None:
        write_model(folder / NODE, node.model_copy(update={"stopped": True}))
    elif status.keeper.send(signal.SIGTERM):
        status.keeper.gone_within(_PATIENCE_MILLISECONDS)
    elif status.phase != "stopped":
        _end_leftovers(folder, status)
        write_model(folder / STATUS, status.model_copy(update={"phase": "stopped"}))


def _reachable(folder: Path) -> tuple[NodeFile, StatusFile | None] | None:
    """A node whose processes we can see, or that has none. Raises Busy for another container's."""
    found = read_node(folder)
    if found is not None and found[1] is not None and found[1].keeper.is_out_of_sight:
        raise Busy(ELSEWHERE)
    return found


def start(folder: Path, environ: Mapping[str, str]) -> None:
    """Start a node that is stopped or has failed. Raises Busy while it is still stopping."""
    found = _reachable(folder)
    if found is None:
        return
    node, status = found
    if status is not None and status.keeper.is_alive:
        if status.phase in ("running", "restarting"):
            return
        raise Busy("it is still stopping")
    if status is not None:
        _end_leftovers(folder, status)
    if node.stopped:
        write_model(folder / NODE, node.model_copy(update={"stopped": False}))
    _launch(folder, environ)


def remove(store: Store, folder: Path) -> None:
    """Begin to remove a node with all its processes; mostly it is gone when this returns."""
    status = _last_status(folder)
    if status is not None and status.keeper.send(signal.SIGUSR1):
        # It takes the node out by itself, once nothing of it runs: also if we die now.
        status.keeper.gone_within(_PATIENCE_MILLISECONDS)
        return
    with _held(folder) as alone:
        # Not alone: a supervisor is just starting, and has not said yet who it is.
        if alone:
            _end_leftovers(folder, status)
            store.take_out(folder)


def errand(folder: Path, command: str, env: Mapping[str, str], stdin: bytes) -> tuple[list[str], bytes]:
    """The program that runs one command on the node, in its workspace and environment, and what it must be told first.

    It ends the command, with all that it started, when its standard input ends. Raises Busy if the node is gone.
    """
    found = read_node(folder)
    if found is None:
        raise Busy("it is gone")
    own = {NODE_ID: folder.name, "GPUPLAN_WORKSPACE": str(folder / WORKSPACE)}
    request = {"command": command, "env": {**found[0].env, **env, **own}, "stdin": base64.b64encode(stdin).decode()}
    return _supervisor("once"), json.dumps(request).encode() + b"\n"


def launch(workspace: Path, command: str, environ: Mapping[str, str]) -> None:
    """Run a command that is over at once, and whose children live on without a node's supervisor."""
    subprocess.run(
        ["/bin/sh"],
        cwd=workspace,
        env={**environ, "GPUPLAN_WORKSPACE": str(workspace)},
        input=command.encode(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        check=False,
    )


def _supervisor(mode: str) -> list[str]:
    return [sys.executable, "-I", "-S", local_supervisor.__file__, mode]


def _launch(folder: Path, environ: Mapping[str, str]) -> None:
    """Start the supervisor and wait until it has started the command. A second one leaves by itself."""
    with (folder / LOG).open("ab") as log:
        subprocess.run(
            _supervisor("keep"),
            cwd=folder,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            check=False,
        )


def _last_status(folder: Path) -> StatusFile | None:
    with contextlib.suppress(Damaged):
        return read_model(folder / STATUS, StatusFile)
    return None


def _end_leftovers(folder: Path, status: StatusFile | None) -> None:
    """After a supervisor that did not end by itself: end what it kept."""
    if status is not None and status.command is not None and status.phase not in ("stopped", "ended"):
        status.command.send(signal.SIGKILL)
        kill_marked(NODE_ID, folder.name)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Whether no supervisor holds the node; until the end of the block none can."""
    try:
        lock = (folder / LOCK).open("a")
    except FileNotFoundError:
        yield False
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
