"""A way into a pod, over the WebSockets of a real port: commands, files, ports."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuplan.core.desired import Kind, ProviderBlock
from gpuplan.core.errors import AuthFailed, Conflict, InvalidRequest, NotFound
from gpuplan.core.ports import Channel, OpenContext
from gpuplan.core.secret import Redactor
from gpuplan.providers.kubernetes import PROVIDER
from gpuplan.testing.bench import Bench
from gpuplan.testing.contracts.kubernetes import KubernetesContract
from gpuplan.testing.http_bench import HttpBench

Story = Callable[[Channel], Awaitable[None]]
LARGE = bytes(range(256)) * 4096


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[HttpBench]:
    with KubernetesContract().open_bench(tmp_path) as bench:
        yield bench
        bench.run(bench.clear())


def visit(bench: Bench, story: Story, **attrs: Any) -> None:
    """Tell a story of the first node of a fresh cluster."""

    async def told() -> None:
        made = await bench.make(Kind.GROUP, nodes=1, **attrs)
        provider: Any = bench.provider
        channel = await provider.channel(made.remote_id)
        await story(channel)
        await channel.close()

    bench.run(told())


def test_a_command_has_its_environment_and_its_input_and_tells_how_it_ended(bench: HttpBench) -> None:
    async def story(channel: Channel) -> None:
        heard: list[str] = []
        script = 'echo "$GREETING $PLAIN"; cat; echo oops >&2; exit 7'
        result = await channel.run(script, env={"GREETING": "it's"}, stdin=b"input\n", each_line=heard.append)

        assert 7 == result.status
        assert ["it's 1", "input", "oops"] == sorted(heard, key=["it's 1", "input", "oops"].index)
        assert "input" in result.tail

    visit(bench, story, env={"PLAIN": "1"})


def test_nothing_of_a_command_is_in_the_url(bench: HttpBench) -> None:
    async def story(channel: Channel) -> None:
        await channel.run("echo a-secret-word", env={"TOKEN": "a-secret-value"})

        (asked,) = [e.request for e in bench.emulator.exchanges if e.request.path.endswith("/exec")]
        assert "a-secret" not in repr(dict(asked.query))

    visit(bench, story)


def test_a_large_input_and_a_large_output_arrive_whole(bench: HttpBench) -> None:
    async def story(channel: Channel) -> None:
        result = await channel.run("wc -c", env={}, stdin=LARGE)

        assert str(len(LARGE)) == result.tail.strip()

    visit(bench, story)


def test_lines_come_while_they_are_printed_and_a_command_ends_with_its_listener(
    bench: HttpBench, tmp_path: Path
) -> None:
    async def story(channel: Channel) -> None:
        lines: list[str] = []
        async for line in channel.stream("echo $$ >pid; while :; do echo tick; sleep 0.05; done", env={}):
            lines.append(line)
            if len(lines) == 3:
                break
        await asyncio.sleep(0)
        alive = "kill -0 $(cat pid) 2>/dev/null && echo alive || echo gone"
        for _ in range(100):
            if "gone" == (await channel.run(alive, env={})).tail.strip():
                break

        assert ["tick"] * 3 == lines
        assert "gone" == (await channel.run(alive, env={})).tail.strip()

    visit(bench, story)


def test_files_and_folders_go_there_and_back(bench: HttpBench, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "large").write_bytes(LARGE)
    (folder / "small").write_text("small\n")

    async def story(channel: Channel) -> None:
        await channel.put(folder / "small", "renamed")
        await channel.put(folder, "copied")
        back = tmp_path / "back"
        await channel.get("renamed", tmp_path / "single")
        await channel.get("copied", back)

        assert "small\n" == (tmp_path / "single").read_text()
        assert LARGE == (back / "inner" / "large").read_bytes()
        with pytest.raises(InvalidRequest):
            await channel.get("nothing-there", tmp_path / "nothing")
        with pytest.raises(InvalidRequest):
            await channel.put(tmp_path / "nothing-here", "x")

    visit(bench, story)


def test_a_port_of_a_node_is_a_port_of_this_machine(bench: HttpBench) -> None:
    async def story(channel: Channel) -> None:
        async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write((await reader.readline()).upper())
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(shout, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with channel.forward(port) as local:
            for _ in range(2):
                reader, writer = await asyncio.open_connection("127.0.0.1", local)
                writer.write(b"hello\n")
                assert b"HELLO\n" == await reader.readline()
                writer.close()
                await writer.wait_closed()
        server.close()

    visit(bench, story)


def test_each_node_has_a_channel_of_its_own(bench: HttpBench) -> None:
    async def told() -> None:
        made = await bench.make(Kind.GROUP, nodes=2)
        provider: Any = bench.provider
        ranks = []
        for member in (0, 1):
            channel = await provider.channel(made.remote_id, member)
            ranks.append((await channel.run("echo $NODE_RANK of $NNODES at $MASTER_ADDR", env={})).tail.strip())

        name = made.remote_id.partition("/")[2]
        assert [f"{rank} of 2 at {name}-0.{name}" for rank in (0, 1)] == ranks

    bench.run(told())


def test_what_cannot_be_entered_says_why(bench: HttpBench) -> None:
    async def told() -> None:
        provider: Any = bench.provider
        made = await bench.send(*bench.ask(Kind.GROUP, gpu=None, options={"node_selector": {"rack": "none"}}))
        await provider.advance(made.want, made.mark, made.seen, {})
        with pytest.raises(Conflict):
            await (await provider.channel(made.remote_id)).run("true", env={})
        with pytest.raises(NotFound):
            await (await provider.channel(bench.missing_id)).run("true", env={})
        stranger: Any = _open(bench, key="wrong-key")
        with pytest.raises(AuthFailed):
            await (await stranger.channel(made.remote_id)).run("true", env={})
        with pytest.raises(InvalidRequest):
            await (await provider.channel(made.remote_id)).run("true", env={"not a name": "1"})
        await stranger.close()

    bench.run(told())


def _open(bench: HttpBench, key: str) -> object:
    options = {"endpoint": f"{bench.emulator.url}/kubernetes", "key": key}
    block = ProviderBlock("kubernetes", "kubernetes", options, ())
    context = OpenContext(block, bench.clock, {}, Redactor())
    return PROVIDER.open(PROVIDER.options.model_validate(options), context)
