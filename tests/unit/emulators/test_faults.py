import random

import pytest

from gpuplan.emulators.faults import GARBAGE, Fault, FaultKind, deliver, strike
from gpuplan.emulators.http import Cut, Response

CHANCE = random.Random(0)


def error(status: int, text: str) -> Response:
    return Response(status, {"error": text})


@pytest.mark.parametrize(
    ("kind", "happens", "status", "cut"),
    [
        (FaultKind.STATUS, False, 502, Cut.NONE),
        (FaultKind.STATUS_AFTER, True, 502, Cut.NONE),
        (FaultKind.DROP, False, None, Cut.DROP),
        (FaultKind.DROP_AFTER, True, None, Cut.DROP),
        (FaultKind.HANG, True, None, Cut.HANG),
        (FaultKind.TRUNCATE, True, None, Cut.TRUNCATE),
        (FaultKind.GARBAGE, True, 200, Cut.NONE),
    ],
)
def test_each_kind_has_its_effect_or_none_and_its_way_to_fail(
    kind: FaultKind, happens: bool, status: int | None, cut: Cut
) -> None:
    done: list[str] = []

    def work() -> Response:
        done.append("effect")
        return Response(201, {"id": 1})

    delivery = deliver(Fault(kind, status=502), 0, work, error)

    assert happens == bool(done)
    assert cut is delivery.cut
    assert status is None or status == delivery.response.status
    if kind is FaultKind.GARBAGE:
        assert GARBAGE == delivery.response.content


def test_a_fault_strikes_as_often_as_it_says_and_only_where() -> None:
    faults = [Fault(FaultKind.DROP, "vultr", "POST", "/v2/instances*", times=2)]
    routes = ["/v2/blocks", "/v2/instances", "/v2/instances/{id}", "/v2/instances"]

    struck = [strike(faults, "vultr", "POST", route, CHANCE)[0] is not None for route in routes]

    assert [False, True, True, False] == struck
    assert (None, 0.0) == strike(faults, "runpod", "POST", "/v2/instances", CHANCE)


def test_latency_comes_on_top_of_another_fault() -> None:
    faults = [Fault(FaultKind.LATENCY, times=None, delay_seconds=2), Fault(FaultKind.DROP, times=None)]

    fault, delay = strike(faults, "vultr", "GET", "/", CHANCE)

    assert fault is not None
    assert (FaultKind.DROP, 2) == (fault.kind, delay)


def test_chance_is_met_about_as_often_as_it_says() -> None:
    faults = [Fault(FaultKind.DROP, times=None, probability=0.25)]

    struck = sum(strike(faults, "", "", "", CHANCE)[0] is not None for _ in range(1000))

    assert 200 < struck < 300
