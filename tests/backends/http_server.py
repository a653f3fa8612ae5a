"""A server of Terraform's HTTP protocol, as its documentation has it; `test_http` lets Terraform itself judge it.

GET /NAME                the document, or 404
POST /NAME?ID=lock       replace it; 423 with the holder's lock when the ID is not that of the lock
LOCK, UNLOCK /NAME       with the lock as JSON; 423 with the holder's when it is not this one
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import parse_qs, urlsplit

USER, PASSWORD = "tests", "a-secret-of-tests"
AUTHORIZATION = "Basic dGVzdHM6YS1zZWNyZXQtb2YtdGVzdHM="
FOREIGN_LOCK = {
    "ID": "6d2c3c0e-4b0e-41a5-8f5c-2f9b8d3a7c11",
    "Operation": "OperationTypeApply",
    "Info": "",
    "Who": "ana@laptop",
    "Version": "1.11.4",
    "Created": "2026-01-01T00:00:00Z",
    "Path": "",
}
"""As Terraform itself says it."""
ENVIRON = {"GPUPLAN_HTTP_USERNAME": USER, "GPUPLAN_HTTP_PASSWORD": PASSWORD}


class States(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *, refusal: int, guarded: bool) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
        self.refusal = refusal
        self.guarded = guarded
        self.documents: dict[str, bytes] = {}
        self.locks: dict[str, bytes] = {}
        self.one_at_a_time = Lock()
        self.requests = 0


class Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # head and body in one packet: the other side would wait for more
    server: States

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        content = self.rfile.read(length)
        if len(content) < length:
            # The client is gone, with half of what it meant to say.
            self.close_connection = True
            return
        wanted = parse_qs(parts.query).get("ID", [""])[0]
        with self.server.one_at_a_time:
            self.server.requests += 1
            status, body = self._decide(parts.path, wanted, content)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = do_LOCK = do_UNLOCK = _answer

    def _decide(self, name: str, lock_id: str, content: bytes) -> tuple[int, bytes]:
        server = self.server
        if self.headers.get("Authorization") != AUTHORIZATION:
            return 401, b"who are you"
        held = server.locks.get(name)
        held_id = json.loads(held)["ID"] if held is not None else ""
        match self.command:
            case "GET":
                document = server.documents.get(name)
                return (404, b"") if document is None else (200, document)
            case "LOCK" if held is None:
                server.locks[name] = content
                return 200, b""
            case "UNLOCK" if held is None or not content or held_id == json.loads(content)["ID"]:
                server.locks.pop(name, None)
                return 200, b""
            case "POST" if held is None or held_id == lock_id or not server.guarded:
                server.documents[name] = content
                return 200, b""
            case "DELETE" if held is None or held_id == lock_id:
                server.documents.pop(name, None)
                return 200, b""
        return server.refusal, held or b""

    def log_message(self, format: str, *args: object) -> None:
        """Tests print enough."""


@contextmanager
def http_server(*, refusal: int = 423, guarded: bool = True) -> Iterator[States]:
    """`refusal` is 423 or 409: servers answer one or the other. `guarded`: whether a POST needs the lock's id."""
    with States(refusal=refusal, guarded=guarded) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
