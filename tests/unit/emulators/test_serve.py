"""Emulators on a real port: what a network does to an answer, and ports side by side."""

import http.client
import socket
from urllib.parse import urlsplit

import pytest

from gpuplan.core.values import JsonValue
from gpuplan.emulators.catalog import emulator_types
from gpuplan.emulators.desk import Desk
from gpuplan.emulators.serve import serving
from gpuplan.emulators.world import World
from gpuplan.testing.emulated import emulated
from gpuplan.testing.hurried import HurriedClock


def get(url: str, path: str, *, timeout: float = 10) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=timeout)
    try:
        connection.request("GET", path, headers={"Authorization": "Bearer mine"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("drop", (http.client.RemoteDisconnected, ConnectionResetError)),
        ("truncate", (http.client.IncompleteRead,)),
        ("hang", (TimeoutError,)),
    ],
)
def test_a_cut_answer_is_cut_on_the_wire(kind: str, error: tuple[type[Exception], ...]) -> None:
    with emulated(HurriedClock(), ["vultr"]) as emulator:
        emulator.fault(kind, provider="vultr")
        with pytest.raises(error):
            get(emulator.url, "/vultr/v2/plans", timeout=0.3 if kind == "hang" else 10)

        assert 200 == get(emulator.url, "/vultr/v2/plans")[0]
        assert [0, 200] == [call["status"] for call in emulator.calls()]


def test_garbage_is_a_success_that_is_not_json() -> None:
    with emulated(HurriedClock(), ["vultr"]) as emulator:
        emulator.fault("garbage", provider="vultr")
        status, content = get(emulator.url, "/vultr/v2/plans")

        assert 200 == status
        assert content.startswith(b"<html>")


def test_a_provider_may_answer_at_the_root_and_a_stranger_is_told_what_there_is() -> None:
    world = World(HurriedClock())
    with serving(Desk(world, emulator_types(["vultr"]), at_root="vultr")) as url:
        assert 200 == get(url, "/v2/plans")[0]
    with serving(Desk(world, emulator_types(["vultr"]))) as url:
        assert (404, True) == ((found := get(url, "/v2/plans"))[0], b"/vultr" in found[1])


def test_a_port_that_is_taken_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=r".+"), serving(Desk(World(HurriedClock()), {}), port=port):
            pass


def test_ssh_is_at_the_port_after() -> None:
    with emulated(HurriedClock(), ["vultr"]) as emulator:
        host, _, port = urlsplit(emulator.url).netloc.partition(":")
        with socket.create_connection((host, int(port) + 1), timeout=10) as connection:
            greeting = connection.recv(64)

    assert greeting.startswith(b"SSH-2.0-")


def test_knobs_are_turned_over_the_port() -> None:
    knobs: dict[str, JsonValue] = {"page_size": 1}
    with emulated(HurriedClock(), ["vultr"]) as emulator:
        emulator.knobs("vultr", knobs)

        assert b'"next": ""' not in get(emulator.url, "/vultr/v2/plans")[1]
