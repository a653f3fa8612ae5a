import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from gpuplan.core.address import Address
from gpuplan.core.errors import Conflict, NoCredentials, Unsupported
from gpuplan.core.observed import Observed, Status
from gpuplan.core.ports import Provider, SshTarget
from gpuplan.core.secret import Redactor
from gpuplan.net.ssh import known_hosts, node_alias
from gpuplan.testing.clock import FakeClock
from gpuplan.testing.memory import MemoryProvider, MemoryWorld
from gpuplan.testing.memory_capabilities import memory_capabilities
from gpuplan.workflow.channels import LONGEST_LOG, OpenChannels
from tests.unit.net.ssh_servers import Server, Visitor, server
from tests.unit.plan.build import have, plan, spec, want

RECORDED = replace(have("clusters.a.nodes[0]"), provider="far", account="acct", token="token1")
SEEN = Observed(RECORDED.kind, RECORDED.remote_id, Status.RUNNING)


class WithoutExec(MemoryProvider):
    """A provider in memory whose nodes SSH reaches, if anything does."""

    channel = None  # type: ignore[assignment]  # it has none

    def __init__(self, target: SshTarget | None) -> None:
        super().__init__(MemoryWorld(FakeClock()), "far", memory_capabilities(exec=False, ssh=True))
        self.target = target

    def ssh_target(self, observed: Observed, member: int | None = None) -> SshTarget | None:
        return self.target


def channels(home: Path, providers: Mapping[str, Provider], *secrets: str) -> OpenChannels:
    return OpenChannels(providers, {"HOME": str(home)}, Redactor(secrets))


def over_ssh(visitor: Visitor, place: Server) -> OpenChannels:
    target = replace(place.target, workspace=place.workspace)
    return channels(visitor.home, {"far": WithoutExec(target)}, "hunter22")


def test_whoever_goes_onto_a_node_at_once_shares_its_connection(tmp_path: Path) -> None:
    visitor = Visitor(tmp_path / "visitor")

    async def main() -> None:
        async with server("asyncssh", tmp_path / "a", visitor.public_key) as place:
            ways = over_ssh(visitor, place)

            async def visit() -> None:
                async with ways.open(RECORDED, SEEN) as channel:
                    assert 0 == (await channel.run("true", env={})).status

            await asyncio.gather(visit(), visit(), visit())
            assert 1 == len(place.connections)
            await visit()
            assert 2 == len(place.connections)
            await ways.close()

    asyncio.run(main())


def test_a_node_that_was_emptied_is_met_for_the_first_time_again(tmp_path: Path) -> None:
    visitor = Visitor(tmp_path / "visitor")
    hosts = known_hosts(visitor.environ)

    async def main() -> None:
        async with server("asyncssh", tmp_path / "a", visitor.public_key) as place:
            ways = over_ssh(visitor, place)
            async with ways.open(RECORDED, SEEN):
                assert 1 == len(hosts.keys(node_alias("acct", RECORDED.remote_id)))
            await ways.emptied(RECORDED)
            assert [] == hosts.keys(node_alias("acct", RECORDED.remote_id))
            await ways.close()

    asyncio.run(main())


@pytest.mark.parametrize(("provider", "error"), [(WithoutExec(None), Conflict), (object(), Unsupported)])
def test_a_node_that_nothing_reaches_is_told(provider: Provider, error: type[Exception], tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(error):
            async with channels(tmp_path, {"far": provider}).open(RECORDED, SEEN):
                raise AssertionError("it was reached")

    asyncio.run(main())


def test_a_log_is_private_and_has_neither_secrets_nor_orders_for_a_terminal(tmp_path: Path) -> None:
    ways = channels(tmp_path, {}, "hunter22")
    recorded = replace(RECORDED, address=Address("clusters", "a", 'e/u"', 0))

    for attempt in ("first", "second"):
        with ways.log(recorded, "setup") as log:
            log.add(f"{attempt}: \x1b[31mhunter22\x1b[0m")
            path = Path(log.where)
            assert f"{attempt}: ********\n" == path.read_text()

    assert (0o600, 0o700) == (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777)
    assert tmp_path / ".local" / "state" / "gpuplan" / "logs" == path.parent


def test_a_log_does_not_fill_the_disk(tmp_path: Path) -> None:
    with channels(tmp_path, {}).log(RECORDED, "setup") as log:
        for _ in range(LONGEST_LOG // 50_000 + 10):
            log.add("x" * 50_000)

    text = Path(log.where).read_text()
    assert len(text) < LONGEST_LOG + 100
    assert text.endswith("x\n(the rest is not kept)\n")


@pytest.mark.parametrize(("setup", "is_refused"), [("install", True), (None, False)])
def test_without_a_key_a_plan_with_a_setup_is_not_begun(setup: str | None, is_refused: bool, tmp_path: Path) -> None:
    made = plan(spec(want("clusters.a.nodes[0]", {"setup": setup} if setup else {})))
    ways = channels(tmp_path, {"here": WithoutExec(None)})

    async def main() -> None:
        try:
            await ways.prepare(made)
        except NoCredentials:
            assert is_refused
        else:
            assert not is_refused

    asyncio.run(main())
