"""What OpenSSH's own client makes of our options: it is asked, and it logs in."""

import asyncio
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from gpuplan.core.ports import SshTarget
from gpuplan.net.ssh import known_hosts, node_alias
from gpuplan.net.ssh_config import Options, ssh_options
from tests.unit.net.ssh_servers import Visitor, host, server


def understood(options: Options, folder: Path) -> dict[str, str]:
    """What `ssh -G` says of a host with these options."""
    config = folder / "config"
    config.write_text("Host node\n" + "".join(f"  {keyword} {value}\n" for keyword, value in options))
    done = subprocess.run(["ssh", "-G", "-F", config, "node"], capture_output=True, text=True, check=True)
    return dict(line.partition(" ")[::2] for line in done.stdout.splitlines())


@pytest.mark.parametrize("name", ["plain", "with space", "100%h"])
def test_file_names_are_taken_as_they_are(name: str, tmp_path: Path) -> None:
    target = SshTarget("192.0.2.7", 2222, "ubuntu")

    seen = understood(ssh_options(target, "gpuplan-1", tmp_path / name, str(tmp_path / "keys" / name)), tmp_path)

    assert ("192.0.2.7", "2222", "ubuntu") == (seen["hostname"], seen["port"], seen["user"])
    assert ("gpuplan-1", "accept-new", "false") == tuple(
        seen[word] for word in ("hostkeyalias", "stricthostkeychecking", "updatehostkeys")
    )
    assert str(tmp_path / name) == seen["userknownhostsfile"]
    # Shown before its tokens are filled in.
    assert str(tmp_path / "keys" / name.replace("%", "%%")) == seen["identityfile"]
    assert "yes" == seen["identitiesonly"]


def test_the_key_of_a_node_counts_more_than_the_one_for_all(tmp_path: Path) -> None:
    target = SshTarget("192.0.2.7", key_file="/keys/own")

    assert "/keys/own" == understood(ssh_options(target, "a", tmp_path, "/keys/all"), tmp_path)["identityfile"]


@pytest.mark.parametrize("over", [False, True], ids=["straight", "over-a-jump-host"])
def test_openssh_logs_in_and_shares_our_host_keys(over: bool, tmp_path: Path) -> None:
    """Both programs check the key that the other one has met first."""
    visitor = Visitor(tmp_path / "the visitor")
    key, hosts = str(visitor.home / ".ssh" / "id_ed25519"), known_hosts(visitor.environ)

    async def main() -> None:
        async with (
            server("asyncssh", tmp_path / "jump", visitor.public_key) as jump,
            server("asyncssh", tmp_path / "node", visitor.public_key) as node,
        ):
            target = replace(node.target, jump=jump.target) if over else node.target
            options = ssh_options(target, node_alias("account", "node-1"), hosts.path, key)
            hosts.path.parent.mkdir(parents=True)
            config = tmp_path / "config"
            config.write_text("Host *\n" + "".join(f"  {keyword} {value}\n" for keyword, value in options))
            for _ in range(2):
                asked = await asyncio.create_subprocess_exec(
                    *("ssh", "-F", str(config), "-o", "BatchMode=yes", "node", "pwd"),
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                )
                told, noted = await asked.communicate()
                assert (0, f"{node.folder / 'home'}\n") == (asked.returncode, told.decode()), noted.decode()
                client = visitor.client()
                channel = await client.open(target, host(), workspace=node.workspace)
                assert 0 == (await channel.run("true", env={})).status
                await channel.close()
                await client.close()
        assert (2 if over else 1) == len(hosts.path.read_text().splitlines())

    asyncio.run(main())
