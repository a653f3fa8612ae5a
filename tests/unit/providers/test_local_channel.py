import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gpuplan.core.errors import InvalidRequest, NotFound
from gpuplan.core.observed import Observed
from gpuplan.core.ports import ExecResult
from gpuplan.providers import local_supervisor
from gpuplan.testing.local import LocalMachine


def workspace(machine: LocalMachine, node: Observed) -> Path:
    return machine.root / "nodes" / node.remote_id / "workspace"


def run(machine: LocalMachine, node: Observed, command: str, stdin: bytes = b"", **env: str) -> ExecResult:
    async def main() -> ExecResult:
        channel = await machine.open().channel(node.remote_id)
        return await channel.run(command, env=env, stdin=stdin)

    return machine.run(main())


def test_a_command_runs_in_the_workspace_with_the_environment_of_the_node(machine: LocalMachine) -> None:
    node = machine.create(env={"A": "1"})

    result = run(machine, node, "echo $A $B; pwd; echo $GPUPLAN_WORKSPACE; echo made > file; exit 4", B="2")

    place = str(workspace(machine, node))
    assert (4, ["1 2", place, place]) == (result.status, result.tail.splitlines())
    assert "made\n" == (workspace(machine, node) / "file").read_text()


@pytest.mark.parametrize(("status", "command"), [(0, "cat"), (137, "cat; kill -9 $$")])
def test_a_command_reads_what_it_is_given(machine: LocalMachine, status: int, command: str) -> None:
    assert ExecResult(status, "line\nanother") == run(machine, machine.create(), command, b"line\nanother\n")


def test_a_command_without_input_reads_nothing(machine: LocalMachine) -> None:
    assert ExecResult(0, "0") == run(machine, machine.create(), "wc -c")


def test_neither_the_command_nor_its_environment_is_among_the_arguments(machine: LocalMachine) -> None:
    async def main() -> list[str]:
        channel = await machine.open().channel(machine_node.remote_id)
        return [line async for line in channel.stream("ps -ww -e -o args=; : canary", env={"A": "canary"})]

    machine_node = machine.create()
    lines = machine.run(main())

    assert any("local_supervisor.py once" in line for line in lines)
    assert not any("canary" in line for line in lines)


def test_a_cancelled_command_leaves_no_process(machine: LocalMachine) -> None:
    node = machine.create()

    async def begin_and_leave() -> None:
        channel = await machine.open().channel(node.remote_id)
        began: asyncio.Queue[str] = asyncio.Queue()
        running = asyncio.create_task(
            channel.run("setsid sleep 1000 & echo begun; sleep 1001", env={}, each_line=began.put_nowait)
        )
        await began.get()
        running.cancel()
        await asyncio.wait([running])

    machine.run(begin_and_leave())

    assert [node.facts["pid"]] == machine.processes


def test_a_stream_is_ended_when_nobody_listens(machine: LocalMachine) -> None:
    node = machine.create()

    async def listen_once() -> str:
        channel = await machine.open().channel(node.remote_id)
        lines = channel.stream("while :; do echo tick; done", env={})
        line = await anext(lines)
        await lines.aclose()  # type: ignore[attr-defined]  # it is a generator
        return line

    assert "tick" == machine.run(listen_once())
    assert [node.facts["pid"]] == machine.processes


def test_a_command_dies_with_whoever_asked_for_it(machine: LocalMachine) -> None:
    node = machine.create()
    command = [sys.executable, "-I", "-S", local_supervisor.__file__, "once"]
    runner = subprocess.Popen(command, cwd=workspace(machine, node).parent, stdin=subprocess.PIPE)
    assert runner.stdin is not None
    request = {
        "command": "setsid sleep 1000 & sleep 1001",
        "env": dict(os.environ),
        "stdin": base64.b64encode(b"").decode(),
    }
    runner.stdin.write(json.dumps(request).encode() + b"\n")
    runner.stdin.close()

    assert 128 + signal.SIGKILL == runner.wait()
    assert [node.facts["pid"]] == machine.processes


def test_files_and_folders_are_copied_both_ways(machine: LocalMachine, tmp_path: Path) -> None:
    node = machine.create()
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "folder" / "inner" / "file").write_text("deep")

    async def main() -> None:
        channel = await machine.open().channel(node.remote_id)
        await channel.put(tmp_path / "folder", "tree")
        await channel.put(tmp_path / "folder" / "inner" / "file", "tree")
        await channel.get("tree", tmp_path / "back")
        with pytest.raises(NotFound):
            await channel.get("nowhere", tmp_path)
        with pytest.raises(NotFound):
            await channel.put(tmp_path / "nothing", "x")

    machine.run(main())

    assert "deep" == (tmp_path / "back" / "inner" / "file").read_text() == (tmp_path / "back" / "file").read_text()


def test_a_port_of_a_node_is_one_of_this_machine(machine: LocalMachine) -> None:
    node = machine.create()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello " + await reader.readline())
        writer.close()

    async def main() -> None:
        channel = await machine.open().channel(node.remote_id)
        service = await asyncio.start_server(greet, "127.0.0.1", 0)
        another = await asyncio.start_server(greet, "127.0.0.1", 0)
        port, taken = (server.sockets[0].getsockname()[1] for server in (service, another))
        async with channel.forward(port) as local:
            assert port == local
        with pytest.raises(InvalidRequest):
            async with channel.forward(port, taken):
                pass
        another.close()
        async with channel.forward(port, taken) as local:
            reader, writer = await asyncio.open_connection("127.0.0.1", local)
            writer.write(b"you\n")
            assert (taken, b"hello you\n") == (local, await reader.readline())
            writer.close()
        service.close()

    machine.run(main())


def test_a_node_that_is_gone_has_no_channel(machine: LocalMachine) -> None:
    with pytest.raises(NotFound):
        machine.run(machine.open().channel("nobody"))
