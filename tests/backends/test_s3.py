"""The S3 backend keeps the promises of all, on a server that somebody else wrote."""

from collections.abc import Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from gpuplan.core.errors import StateError
from gpuplan.state.registry import Opening, place_of_url
from gpuplan.testing.backend_place import PlaceClock
from gpuplan.testing.state_samples import asks
from tests.backends.configured import Configured, check_workspaces
from tests.backends.s3_server import BUCKET, ENVIRON


class TestS3(Configured):
    environ = ENVIRON

    @pytest.fixture(autouse=True)
    def served(self, s3: int) -> None:
        self.server = ("127.0.0.1", s3)

    def url(self, folder: Path, port: int) -> str:
        return f"s3://{BUCKET}/{folder.name}?endpoint=http://127.0.0.1:{port}"


WRONG_KEY = {**ENVIRON, "AWS_SECRET_ACCESS_KEY": "another"}


@pytest.mark.parametrize(
    ("bucket", "environ", "error"),
    [("no-such-bucket", ENVIRON, "state-refused"), (BUCKET, WRONG_KEY, "state-refused"), (BUCKET, ENVIRON, "")],
)
def test_what_the_server_refuses_is_told_without_the_key(
    s3: int, bucket: str, environ: Mapping[str, str], error: str
) -> None:
    clock = PlaceClock(datetime(2026, 1, 1, tzinfo=UTC))
    place = place_of_url(f"s3://{bucket}/refusals?endpoint=http://127.0.0.1:{s3}", environ)
    opening = Opening("default", clock, environ, Path())
    try:
        clock.run(place.open(opening).load())
        found = ""
    except StateError as exc:
        found = exc.diagnostics[0].id
        assert environ["AWS_SECRET_ACCESS_KEY"] not in str(exc.diagnostics)
        assert environ["AWS_ACCESS_KEY_ID"] not in str(exc.diagnostics)

    assert error == found


def test_workspaces_with_a_state_are_listed(s3: int) -> None:
    clock = PlaceClock(datetime(2026, 1, 1, tzinfo=UTC))
    place = place_of_url(f"s3://{BUCKET}/workspaces?endpoint=http://127.0.0.1:{s3}", ENVIRON)

    clock.run(check_workspaces(place, clock, ENVIRON))


class Careless(BaseHTTPRequestHandler):
    """A server that takes every write, whatever the conditions."""

    protocol_version = "HTTP/1.1"
    wbufsize = 65536

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b"<DeleteResult></DeleteResult>" if self.command == "POST" else b""
        self.send_response(404 if self.command == "GET" else 200)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = _answer

    def log_message(self, format: str, *args: object) -> None:
        """Tests print enough."""


def test_server_that_takes_no_notice_of_conditions_is_refused_before_anything_begins() -> None:
    clock = PlaceClock(datetime(2026, 1, 1, tzinfo=UTC))
    with ThreadingHTTPServer(("127.0.0.1", 0), Careless) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            place = place_of_url(f"s3://{BUCKET}/careless?endpoint=http://127.0.0.1:{server.server_port}", ENVIRON)
            with pytest.raises(StateError) as caught:
                clock.run(place.open(Opening("default", clock, ENVIRON, Path())).lock(asks(clock)))
        finally:
            server.shutdown()
            thread.join()

    assert any("If-None-Match" in fact for fact in caught.value.diagnostics[0].facts)
