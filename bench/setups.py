"""`python -m bench.setups`: the setup of 200 nodes over SSH on this machine, and the table of it in
`docs/performance.md`.

A process of its own is the SSH server of all nodes, each command a real shell. What is told: how long an apply takes
beside the shortest that the limit allows, its peak memory, and how many connections were open at once.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path

import asyncssh

from bench.engines import ROOT, Gpuplan
from bench.measure import run
from bench.reachable import PORT
from bench.sections import put_section
from gpuplan.emulators.nodes import run_shell

SECTION = "setups"
SPEC = """\
version: 1
project: bench
providers: {{reachable: {{type: "bench.reachable:PROVIDER"}}}}
clusters:
  crowd: {{provider: reachable, nodes: {nodes}, setup: "sleep {seconds}; echo $GPUPLAN_NODE_INDEX"}}
"""


@dataclass(frozen=True, slots=True)
class Row:
    """`seconds` is what one setup takes, `limit` how many run at once."""

    nodes: int
    seconds: float
    limit: int
    makespan_seconds: float
    peak_mb: float
    logins: int
    most_connections: int

    @property
    def bound_seconds(self) -> float:
        return ceil(self.nodes / self.limit) * self.seconds


def main() -> int:
    arguments = _arguments()
    if arguments.serve:
        return asyncio.run(_serve(Path(arguments.serve)))
    rows = [_measured(arguments.nodes, seconds, limit) for seconds in arguments.seconds for limit in arguments.limits]
    text = _table(rows)
    print(text)
    if arguments.page:
        put_section(Path(arguments.page), SECTION, text)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.setups", description=__doc__)
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--seconds", type=_numbers(float), default=[0.0, 2.0], help="how long each setup takes")
    parser.add_argument("--limits", type=_numbers(int), default=[16, 32, 200], help="how many run at once")
    parser.add_argument("--page", metavar="FILE", help="put the table into its section of this page")
    parser.add_argument("--serve", metavar="FOLDER", help=argparse.SUPPRESS)
    return parser.parse_args()


def _numbers(kind: type[int] | type[float]) -> Callable[[str], list[int | float]]:
    return lambda text: [kind(part) for part in text.split(",")]


def _measured(nodes: int, seconds: float, limit: int) -> Row:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        home = folder / "home"
        (home / ".ssh").mkdir(parents=True)
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(home / ".ssh" / "id_ed25519")
        key.write_public_key(folder / "authorized_keys")
        (folder / "gpuplan.yaml").write_text(SPEC.format(nodes=nodes, seconds=seconds))
        engine = Gpuplan()
        with _served(folder) as server:
            measured = run(
                [*engine.program, "apply", "--auto-approve", "--parallelism", str(limit)],
                folder=folder,
                environ={**engine.environ(), "HOME": str(home), PORT: str(server.port)},
                limit_seconds=600,
            )
        if measured.status != 0:
            raise SystemExit(measured.output)
        return Row(nodes, seconds, limit, measured.seconds, measured.peak_mb, server.logins, server.most)


@dataclass(slots=True)
class _Server:
    port: int
    logins: int = 0
    most: int = 0


@contextmanager
def _served(folder: Path) -> Iterator[_Server]:
    """A server in a process of its own, which tells what it saw when it is told to end."""
    command = [sys.executable, "-m", "bench.setups", "--serve", str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdin is not None and running.stdout is not None
        server = _Server(int(running.stdout.readline()))
        yield server
        running.stdin.close()
        seen = json.loads(running.stdout.readline())
        server.logins, server.most = seen["logins"], seen["most"]


async def _serve(folder: Path) -> int:
    living: set[object] = set()
    seen = {"logins": 0, "most": 0}

    class Door(asyncssh.SSHServer):
        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            living.add(self)
            seen["logins"] += 1
            seen["most"] = max(seen["most"], len(living))

        def connection_lost(self, exc: Exception | None) -> None:
            living.discard(self)

    listener = await asyncssh.create_server(
        Door,
        "127.0.0.1",
        0,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        authorized_client_keys=str(folder / "authorized_keys"),
        process_factory=partial(run_shell, folder),
        encoding=None,
        backlog=512,
    )
    print(listener.get_port(), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    print(json.dumps(seen), flush=True)
    listener.close()
    return 0


def _table(rows: Sequence[Row]) -> str:
    lines = [
        f"{os.cpu_count()} cores for gpuplan, the SSH server and the commands together.",
        "",
        "| nodes | each takes | at once | shortest possible | gpuplan | peak memory | connections at once |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        asked = f"| {row.nodes} | {row.seconds:g} s | {row.limit} | {row.bound_seconds:.1f} s"
        lines.append(f"{asked} | {row.makespan_seconds:.1f} s | {row.peak_mb:.0f} MB | {row.most_connections} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
