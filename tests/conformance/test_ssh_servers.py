"""`ssh` at every SSH server that this machine has: OpenSSH's own where it is installed."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gpuplan.core.desired import Kind, ProviderBlock
from gpuplan.core.errors import AuthFailed, HostKeyChanged, NoCapacity
from gpuplan.core.observed import Observed, Status
from gpuplan.core.ports import OpenContext
from gpuplan.core.secret import Redactor
from gpuplan.core.values import JsonValue
from gpuplan.net.clock import SystemClock
from gpuplan.providers.ssh import PROVIDER, Ssh
from gpuplan.testing.local import end_all_in, no_process_in
from gpuplan.testing.ssh_rig import Rig
from tests.conformance.ssh_lab import Lab
from tests.unit.net.ssh_servers import SERVERS, Server, Visitor, free_port, server


@pytest.fixture(params=SERVERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    end_all_in(tmp_path)


def entry(name: str, at: Server, **more: JsonValue) -> Mapping[str, JsonValue]:
    target = at.target
    return {
        "name": name,
        "ssh_host": target.host,
        "ssh_port": target.port,
        "ssh_user": target.user,
        "directory": str(at.folder / "gpuplan"),
        **more,
    }


@asynccontextmanager
async def opened(visitor: Visitor, *hosts: Mapping[str, JsonValue], **options: JsonValue) -> AsyncIterator[Ssh]:
    checked = PROVIDER.options.model_validate({"hosts": hosts, "shared": True, "grace": 0.5, **options})
    context = OpenContext(ProviderBlock("lab", "ssh", {}, ()), SystemClock(), visitor.environ, Redactor())
    ssh = PROVIDER.open(checked, context)
    assert isinstance(ssh, Ssh)
    try:
        yield ssh
    finally:
        await ssh.close()


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


async def claimed(ssh: Ssh, lab: Lab, name: str, **attrs: Any) -> Observed:
    return await ssh.create(*lab.ask("default", None, instance_type=name, **attrs), {})


@pytest.fixture
def lab(folder: Path) -> Iterator[Lab]:
    """Only to ask with: its machines are not used."""
    with asyncio.Runner() as runner:
        yield Lab(Rig(folder / "rig"), runner)


def test_a_node_is_claimed_changed_stopped_started_and_released(kind: str, folder: Path, lab: Lab) -> None:
    async def story() -> None:
        visitor = Visitor(folder / "home")
        async with server(kind, folder / "m0", visitor.public_key) as m0, opened(visitor, entry("m0", m0)) as ssh:
            want, mark = lab.ask("default", None, command="echo $A; exec sleep 1000", env={"A": "1"})
            node = await ssh.create(want, mark, {})
            assert node.status is Status.RUNNING
            with pytest.raises(NoCapacity):
                await claimed(ssh, lab, "m0")
            changed, _ = lab.ask("default", None, command="echo $A; exec sleep 1000", env={"A": "2"})
            await ssh.update(changed, node.remote_id, {})
            stopped = await ssh.stop(Kind.NODE, node.remote_id)
            started = await ssh.start(Kind.NODE, node.remote_id)
            lines = [line async for line in ssh.logs(Kind.NODE, node.remote_id, follow=False, tail=10)]
            await ssh.delete(Kind.NODE, node.remote_id, {})
            await no_process_in(folder, SystemClock())

            assert (Status.STOPPED, Status.RUNNING) == (stopped.status, started.status)
            assert ["1", "2"] == lines
            assert await ssh.get(Kind.NODE, node.remote_id) is None

    run(story())


def test_several_workspaces_race_and_one_gets_the_machine(kind: str, folder: Path, lab: Lab) -> None:
    async def story() -> None:
        visitor = Visitor(folder / "home")
        async with (
            server(kind, folder / "m0", visitor.public_key) as m0,
            opened(visitor, entry("m0", m0)) as red,
            opened(visitor, entry("m0", m0)) as blue,
        ):
            attempts = [claimed(ssh, lab, "m0") for ssh in (red, blue, red, blue)]
            outcomes = await asyncio.gather(*attempts, return_exceptions=True)

            assert 1 == sum(isinstance(each, Observed) for each in outcomes)
            assert 3 == sum(isinstance(each, NoCapacity) for each in outcomes)

    run(story())


def test_machines_behind_a_jump_host_are_reached_over_it(kind: str, folder: Path, lab: Lab) -> None:
    async def story() -> None:
        visitor = Visitor(folder / "home")
        async with (
            server(kind, folder / "jump", visitor.public_key) as jump,
            server(kind, folder / "m0", visitor.public_key) as m0,
            server(kind, folder / "m1", visitor.public_key) as m1,
            opened(
                visitor,
                entry("m0", m0),
                entry("m1", m1),
                jump=f"{jump.target.user}@127.0.0.1:{jump.port}",
            ) as ssh,
        ):
            nodes = [await claimed(ssh, lab, name) for name in ("m0", "m1")]

            assert [Status.RUNNING] * 2 == [node.status for node in nodes]

    run(story())


def test_a_changed_host_key_is_refused(kind: str, folder: Path, lab: Lab) -> None:
    async def story() -> None:
        visitor, port = Visitor(folder / "home"), free_port()
        async with (
            server(kind, folder / "m0", visitor.public_key, port=port) as m0,
            opened(visitor, entry("m0", m0)) as ssh,
        ):
            node = await claimed(ssh, lab, "m0")
        async with (
            server(kind, folder / "m0", visitor.public_key, port=port) as m0,
            opened(visitor, entry("m0", m0)) as ssh,
        ):
            with pytest.raises(HostKeyChanged):
                await ssh.get(Kind.NODE, node.remote_id)
            listed = await ssh.list(Kind.NODE, frozenset({node.remote_id}))

            assert ("m0/",) == listed.unseen

    run(story())


def test_a_key_that_is_not_let_in_is_told(kind: str, folder: Path, lab: Lab) -> None:
    async def story() -> None:
        visitor, stranger = Visitor(folder / "home"), Visitor(folder / "stranger")
        async with server(kind, folder / "m0", visitor.public_key) as m0, opened(stranger, entry("m0", m0)) as ssh:
            with pytest.raises(AuthFailed):
                await claimed(ssh, lab, "m0")

    run(story())
