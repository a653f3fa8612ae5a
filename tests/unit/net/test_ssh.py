"""Channels to real SSH servers: OpenSSH's where this machine has one, and asyncssh's."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from gpuplan.core.errors import (
    AuthFailed,
    HostKeyChanged,
    InvalidRequest,
    NoCredentials,
    NotFound,
    OutcomeUnknown,
    Unavailable,
)
from gpuplan.core.ports import Channel, SshTarget
from tests.unit.net.ssh_servers import SERVERS, Server, Visitor, free_port, host, server


@pytest.fixture
def visitor(tmp_path: Path) -> Visitor:
    return Visitor(tmp_path / "visitor", secrets=("hunter22",))


@pytest.fixture(params=SERVERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def run(work: Coroutine[Any, Any, None]) -> None:
    async def in_time() -> None:
        async with asyncio.timeout(60):
            await work

    asyncio.run(in_time())


class Way:
    """A channel to a server, closed with its client at the end of the block."""

    def __init__(self, visitor: Visitor, place: Server, **environ: str) -> None:
        self.client, self.place = visitor.client(**environ), place

    async def __aenter__(self) -> Channel:
        self.channel = await self.client.open(self.place.target, host(), workspace=self.place.workspace)
        return self.channel

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()
        await self.client.close()


def test_a_command_tells_its_status_and_its_lines(kind: str, tmp_path: Path, visitor: Visitor) -> None:
    async def main() -> None:
        heard: list[str] = []
        async with server(kind, tmp_path / "a", visitor.public_key) as place, Way(visitor, place) as channel:
            result = await channel.run(
                "pwd; echo $TOKEN; printf '\\033[31mred\\n'; echo two >&2; exit 3",
                env={"TOKEN": "hunter22"},
                each_line=heard.append,
            )
            assert 3 == result.status
            assert sorted([place.workspace, "hunter22", "\x1b[31mred", "two"]) == sorted(heard)
            assert sorted([place.workspace, "********", "red", "two"]) == sorted(result.tail.splitlines())

    run(main())


def test_a_command_killed_by_a_signal_has_a_status(kind: str, tmp_path: Path, visitor: Visitor) -> None:
    async def main() -> None:
        async with server(kind, tmp_path / "a", visitor.public_key) as place, Way(visitor, place) as channel:
            assert 137 == (await channel.run("kill -9 $$", env={})).status

    run(main())


def test_what_is_left_running_does_not_hold_up_a_command(kind: str, tmp_path: Path, visitor: Visitor) -> None:
    async def main() -> None:
        async with server(kind, tmp_path / "a", visitor.public_key) as place, Way(visitor, place) as channel:
            result = await channel.run("sleep 1000 & echo $!", env={})
            assert 0 == result.status
            await channel.run(f"kill {result.tail}", env={})

    run(main())


@pytest.mark.parametrize(
    ("command", "size", "last", "count"),
    [
        ("cat", 200_000, "0024999", 25_000),
        ("cat | wc -c", 8_000_000, "8000000", 1),
        ("seq 500000", 0, "500000", 500_000),
    ],
)
def test_megabytes_go_in_and_come_out_whole(
    command: str, size: int, last: str, count: int, kind: str, tmp_path: Path, visitor: Visitor
) -> None:
    content = b"".join(b"%07d\n" % number for number in range(size // 8))

    async def main() -> None:
        lines: list[str] = []
        async with server(kind, tmp_path / "a", visitor.public_key) as place, Way(visitor, place) as channel:
            result = await channel.run(command, env={}, stdin=content, each_line=lines.append)
        assert (0, last, count) == (result.status, lines[-1], len(lines))

    run(main())


def test_input_that_ends_while_a_command_still_reads_arrives_whole(kind: str, tmp_path: Path, visitor: Visitor) -> None:
    async def main() -> None:
        async with server(kind, tmp_path / "a", visitor.public_key) as place, Way(visitor, place) as channel:
            runs = [channel.run("wc -c", env={}, stdin=bytes(size)) for size in range(100_000, 500_000, 10_000)]
            results = await asyncio.gather(*runs)
        assert [str(size) for size in range(100_000, 500_000, 10_000)] == [result.tail.strip() for result in results]

    run(main())


def test_one_connection_carries_more_commands_than_a_server_allows_at_once(
    kind: str, tmp_path: Path, visitor: Visitor
) -> None:
    async def main() -> None:
        async with server(kind, tmp_path / "a", visitor.public_key) as place, Way(visitor, place) as channel:
            results = await asyncio.gather(*(channel.run(f"sleep 0.1; echo {n}", env={}) for n in range(25)))
        assert [str(n) for n in range(25)] == [result.tail for result in results]

    run(main())


def test_a_stream_is_ended_when_nobody_listens(kind: str, tmp_path: Path, visitor: Visitor) -> None:
    async def main() -> None:
        async with server(kind, tmp_path / "a", visitor.public_key) as place, Way(visitor, place) as channel:
            lines = channel.stream("echo $$; while :; do echo tick; sleep 0.01; done", env={})
            pid = await anext(lines)
            assert "tick" == await anext(lines)
            await lines.aclose()  # type: ignore[attr-defined]  # it is a generator
            await until_gone(channel, pid)

    run(main())


def test_a_command_ends_with_whoever_waits_for_it(kind: str, tmp_path: Path, visitor: Visitor) -> None:
    async def main() -> None:
        async with server(kind, tmp_path / "a", visitor.public_key) as place, Way(visitor, place) as channel:
            began: asyncio.Queue[str] = asyncio.Queue()
            waiting = asyncio.create_task(
                channel.run("echo $$; sleep 1000 & sleep 1001", env={}, each_line=began.put_nowait)
            )
            pid = await began.get()
            waiting.cancel()
            await asyncio.wait([waiting])
            assert waiting.cancelled()
            await until_gone(channel, pid)

    run(main())


def test_a_command_dies_with_its_connection(kind: str, tmp_path: Path, visitor: Visitor) -> None:
    async def main() -> None:
        async with server(kind, tmp_path / "a", visitor.public_key) as place, Way(visitor, place) as another:
            began: asyncio.Queue[str] = asyncio.Queue()
            client = visitor.client()
            channel = await client.open(place.target, host(), workspace=place.workspace)
            waiting = asyncio.create_task(channel.run("echo $$; sleep 1000", env={}, each_line=began.put_nowait))
            pid = await began.get()
            await channel.close()
            with pytest.raises(OutcomeUnknown) as caught:
                await waiting
            await until_gone(another, pid)
            await client.close()
        assert "run a command on clusters.a.nodes[0]" in str(caught.value)

    run(main())


async def until_gone(channel: Channel, pid: str) -> None:
    while not (await channel.run(f"kill -0 {pid}", env={})).status:
        pass


def test_a_connection_that_is_gone_starts_nothing(kind: str, tmp_path: Path, visitor: Visitor) -> None:
    async def main() -> None:
        async with server(kind, tmp_path / "a", visitor.public_key) as place, Way(visitor, place) as channel:
            await channel.close()
            with pytest.raises(Unavailable):
                await channel.run("echo never > file", env={})
            assert not Path(place.workspace).exists()

    run(main())


@pytest.mark.parametrize("sftp", [True, False], ids=["sftp", "no-sftp"])
def test_files_and_folders_are_copied_both_ways(kind: str, sftp: bool, tmp_path: Path, visitor: Visitor) -> None:
    here = tmp_path / "here"
    (here / "folder" / "inner").mkdir(parents=True)
    (here / "file").write_bytes(os.urandom(300_000))
    (here / "file").chmod(0o750)
    (here / "folder" / "inner" / "it's").write_text("deep")

    async def main() -> None:
        async with server(kind, tmp_path / "a", visitor.public_key, sftp=sftp) as place, Way(visitor, place) as channel:
            await channel.put(here / "file", "renamed")
            await channel.put(here / "folder", "tree")
            await channel.put(here / "file", "tree")
            found = await channel.run('find . -type f | sort; stat -c %a renamed; cat "tree/inner/it\'s"', env={})
            assert ["./renamed", "./tree/file", "./tree/inner/it's", "750", "deep"] == found.tail.splitlines()

            await channel.get("renamed", tmp_path / "back")
            await channel.get("tree", tmp_path / "tree")
            await channel.get(f"{place.workspace}/renamed", tmp_path / "tree")
        assert (here / "file").read_bytes() == (tmp_path / "back").read_bytes()
        assert (here / "file").read_bytes() == (tmp_path / "tree" / "renamed").read_bytes()
        assert "deep" == (tmp_path / "tree" / "inner" / "it's").read_text()

    run(main())


@pytest.mark.parametrize("sftp", [True, False], ids=["sftp", "no-sftp"])
def test_what_cannot_be_copied_is_named(kind: str, sftp: bool, tmp_path: Path, visitor: Visitor) -> None:
    (tmp_path / "file").touch()

    async def main() -> None:
        async with server(kind, tmp_path / "a", visitor.public_key, sftp=sftp) as place, Way(visitor, place) as channel:
            with pytest.raises(NotFound):
                await channel.get("nowhere", tmp_path / "got")
            with pytest.raises(InvalidRequest) as missing:
                await channel.put(tmp_path / "nothing", "got")
            with pytest.raises((InvalidRequest, NotFound)):
                await channel.put(tmp_path / "file", "no/such/folder/file")
        assert (f"`{tmp_path / 'nothing'}`: no such file or directory",) == missing.value.failure.facts

    run(main())


def test_a_port_of_the_node_is_a_port_of_this_machine(kind: str, tmp_path: Path, visitor: Visitor) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello " + await reader.readline())
        writer.close()

    async def main() -> None:
        service = await asyncio.start_server(greet, "127.0.0.1", 0)
        port = service.sockets[0].getsockname()[1]
        async with server(kind, tmp_path / "a", visitor.public_key) as place, Way(visitor, place) as channel:
            async with channel.forward(port) as local:
                reader, writer = await asyncio.open_connection("127.0.0.1", local)
                writer.write(b"you\n")
                assert b"hello you\n" == await reader.readline()
                writer.close()
            with pytest.raises(InvalidRequest) as taken:
                async with channel.forward(port, port):
                    pass
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", local)
        service.close()
        assert f"port {port} of this machine: " in taken.value.failure.facts[0]

    run(main())


def test_a_changed_host_key_is_refused_and_both_are_named(kind: str, tmp_path: Path, visitor: Visitor) -> None:
    port = free_port()

    async def main() -> None:
        async with server(kind, tmp_path / "a", visitor.public_key, port=port) as place, Way(visitor, place):
            pass
        async with server(kind, tmp_path / "a", visitor.public_key, port=port) as place:
            with pytest.raises(HostKeyChanged) as caught:
                async with Way(visitor, place):
                    raise AssertionError("it was let in")
            _, on_record, offered, nothing = caught.value.failure.facts
            assert on_record.startswith("on record: ssh-ed25519 SHA256:")
            assert offered.startswith("offered now: ssh-ed25519 SHA256:")
            assert on_record[-40:] != offered[-40:]
            assert "somebody else may have answered; nothing was sent" == nothing

            hint = caught.value.failure.hint
            assert hint is not None
            await asyncio.to_thread(accept, hint.partition("accept it: ")[2])
            async with Way(visitor, place) as channel:
                assert 0 == (await channel.run("true", env={})).status

    run(main())


def accept(command: str) -> None:
    subprocess.run(command.split(), check=True, capture_output=True)


def test_a_host_that_has_no_key_of_the_recorded_kind_is_another_one(
    kind: str, tmp_path: Path, visitor: Visitor
) -> None:
    async def main() -> None:
        async with server(kind, tmp_path / "a", visitor.public_key) as place, Way(visitor, place):
            pass
        async with server(kind, tmp_path / "b", visitor.public_key, host_key="ecdsa-sha2-nistp256") as place:
            with pytest.raises(HostKeyChanged) as caught:
                async with Way(visitor, place):
                    raise AssertionError("it was let in")
        assert caught.value.failure.facts[2].startswith("offered now: ecdsa-sha2-nistp256 SHA256:")

    run(main())


def test_a_new_node_at_the_address_of_an_old_one_is_no_alarm(kind: str, tmp_path: Path, visitor: Visitor) -> None:
    port = free_port()

    async def main() -> None:
        for name in ("old", "new"):
            async with server(kind, tmp_path / name, visitor.public_key, port=port) as place:
                client = visitor.client()
                channel = await client.open(place.target, host(remote_id=name), workspace=place.workspace)
                await channel.close()
                await client.close()

    run(main())


def test_a_key_that_is_not_accepted_is_told(kind: str, tmp_path: Path, visitor: Visitor) -> None:
    stranger = Visitor(tmp_path / "stranger")

    async def main() -> None:
        async with server(kind, tmp_path / "a", visitor.public_key) as place:
            with pytest.raises(AuthFailed) as caught:
                async with Way(stranger, place):
                    raise AssertionError("it was let in")
            where = f"over SSH, as {place.target.user}@127.0.0.1:{place.port}"
        assert (where, "none of the keys is accepted there") == caught.value.failure.facts
        assert not (stranger.home / ".local").exists()

    run(main())


def test_where_nobody_listens_it_can_be_tried_again(tmp_path: Path, visitor: Visitor) -> None:
    async def main() -> None:
        client = visitor.client()
        with pytest.raises(Unavailable) as caught:
            await client.open(SshTarget("127.0.0.1", free_port()), host(), workspace=".")
        await client.close()
        assert "reach clusters.a.nodes[0]" in str(caught.value)
        assert "connect" in caught.value.failure.facts[-1]

    run(main())


def test_what_answers_without_being_ssh_can_be_tried_again(visitor: Visitor) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def main() -> None:
        service = await asyncio.start_server(answer, "127.0.0.1", 0)
        client = visitor.client()
        with pytest.raises(Unavailable):
            await client.open(SshTarget("127.0.0.1", service.sockets[0].getsockname()[1]), host(), workspace=".")
        await client.close()
        service.close()

    run(main())


def test_the_connection_to_a_jump_host_is_shared(tmp_path: Path, visitor: Visitor) -> None:
    async def main() -> None:
        async with (
            server("asyncssh", tmp_path / "jump", visitor.public_key) as jump,
            server("asyncssh", tmp_path / "node", visitor.public_key) as node,
        ):
            client, target = visitor.client(), replace(node.target, jump=jump.target)
            channels = await asyncio.gather(
                *(client.open(target, host(remote_id=f"node-{n}"), workspace=node.workspace) for n in range(5))
            )
            results = [await channel.run("echo there", env={}) for channel in channels]
            assert ["there"] * 5 == [result.tail for result in results]
            assert (1, 5) == (len(jump.connections), len(node.connections))
            for channel in channels:
                await channel.close()
            await client.close()

    run(main())


def encrypted(visitor: Visitor) -> Path:
    path = visitor.home / "encrypted"
    visitor.key.write_private_key(path, passphrase="secret")
    path.chmod(0o600)
    visitor.key.write_public_key(f"{path}.pub")
    return path


def test_an_encrypted_key_is_not_asked_for_its_passphrase(tmp_path: Path, visitor: Visitor) -> None:
    path = encrypted(visitor)

    async def main() -> None:
        client = visitor.client(GPUPLAN_SSH_KEY=str(path))
        with pytest.raises(NoCredentials) as caught:
            await client.prepare(provider="here")
        assert (f"the key `{path}` is encrypted, and no agent has it",) == caught.value.failure.facts
        assert f"give it to an agent: ssh-add {path}" == caught.value.failure.hint

    run(main())


def test_the_agent_has_what_is_encrypted_on_disk(tmp_path: Path, visitor: Visitor) -> None:
    """With a real ssh-agent. That it knows other keys too does not matter."""
    path, socket = encrypted(visitor), tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.PIPE)
    assert agent.stdout is not None
    # It speaks once it listens.
    agent.stdout.readline()

    async def main() -> None:
        other = asyncssh.generate_private_key("ssh-ed25519")
        async with await asyncssh.connect_agent(str(socket)) as client:
            await client.add_keys([other, visitor.key])
        (visitor.home / ".ssh" / "id_ed25519").unlink()
        async with server("asyncssh", tmp_path / "a", visitor.public_key) as place:
            for environ in ({"GPUPLAN_SSH_KEY": str(path)}, {}):
                async with Way(visitor, place, SSH_AUTH_SOCK=str(socket), **environ) as channel:
                    assert 0 == (await channel.run("true", env={})).status

    try:
        run(main())
    finally:
        agent.kill()
        agent.communicate()


@pytest.mark.parametrize(
    ("name", "content", "fact"),
    [
        ("missing", None, "the key `~/missing` cannot be used: no such file or directory"),
        ("public", "ssh-ed25519 AAAA", "the key `~/public` cannot be used: it is no private key"),
    ],
)
def test_a_key_that_is_named_must_be_one(name: str, content: str | None, fact: str, visitor: Visitor) -> None:
    if content is not None:
        (visitor.home / name).write_text(content)

    async def main() -> None:
        client = visitor.client(GPUPLAN_SSH_KEY=f"~/{name}")
        with pytest.raises(NoCredentials) as caught:
            await client.prepare(provider="here")
        assert (fact,) == caught.value.failure.facts

    run(main())


def test_without_any_key_nothing_is_begun(tmp_path: Path, visitor: Visitor) -> None:
    (visitor.home / ".ssh" / "id_ed25519").unlink()
    visitor.key.write_private_key(visitor.home / ".ssh" / "id_rsa", passphrase="secret")

    async def main() -> None:
        client = visitor.client(SSH_AUTH_SOCK=str(tmp_path / "dead"))
        with pytest.raises(NoCredentials) as caught:
            await client.prepare(provider="here")
        looked, left_out = caught.value.failure.facts
        assert "there is no agent with a key, and none in ~/.ssh/id_ed25519" in looked
        assert "~/.ssh/id_rsa is encrypted, and gpuplan asks for no passphrase: `ssh-add ~/.ssh/id_rsa`" == left_out

    run(main())


def test_without_the_extra_it_is_said_how_to_install_it() -> None:
    program = (
        "import asyncio, sys; sys.modules['asyncssh'] = None\n"
        "from gpuplan.net.ssh import SshClient\n"
        "asyncio.run(SshClient({}, redact=str).prepare(provider='here'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)

    assert 1 == done.returncode
    assert "reaching nodes over SSH needs a package that is not installed" in done.stderr
