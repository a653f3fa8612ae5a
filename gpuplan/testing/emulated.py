"""Emulators for tests: a world on a port of this machine, its control API at hand, and every exchange written down."""

import http.client
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from gpuplan.core.ports import Clock
from gpuplan.core.values import JsonValue
from gpuplan.emulators.catalog import emulator_types
from gpuplan.emulators.desk import Desk
from gpuplan.emulators.http import Cut, Delivery, Request, Response
from gpuplan.emulators.serve import serving
from gpuplan.emulators.site import EmulatorType
from gpuplan.emulators.world import World

_PATIENCE_SECONDS = 30


@dataclass(slots=True)
class Exchange:
    """A request that was received, and the response as it was meant."""

    request: Request
    response: Response


class RecordingDesk(Desk):
    """Writes down what passes; what faults have cut is left out."""

    def __init__(self, world: World, types: Mapping[str, EmulatorType]) -> None:
        super().__init__(world, types)
        self.exchanges: list[Exchange] = []

    def answer(self, request: Request) -> Delivery:
        delivery = super().answer(request)
        if delivery.cut is Cut.NONE:
            self.exchanges.append(Exchange(request, delivery.response))
        return delivery


@dataclass(slots=True)
class Emulated:
    """A running emulator, and what its control API can do. All of it goes over the port, as anyone's would."""

    url: str
    exchanges: list[Exchange]

    def ledger(self, **having: JsonValue) -> list[dict[str, Any]]:
        """Every object that ever existed, or those whose fields are these."""
        rows: list[dict[str, Any]] = self._ask("GET", "ledger")["objects"]
        return [row for row in rows if all(row[name] == value for name, value in having.items())]

    def living(self, **having: JsonValue) -> list[dict[str, Any]]:
        return [row for row in self.ledger(**having) if row["deleted_at"] is None]

    def calls(self) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = self._ask("GET", "calls")["calls"]
        return calls

    def forget_calls(self) -> None:
        self._ask("DELETE", "calls")

    def fault(self, kind: str, **fields: JsonValue) -> None:
        self._ask("POST", "faults", {"kind": kind, **fields})

    def clear_faults(self) -> None:
        self._ask("DELETE", "faults")

    def stock(self, **fields: JsonValue) -> None:
        self._ask("POST", "stock", fields)

    def knobs(self, provider: str, knobs: Mapping[str, JsonValue]) -> None:
        self._ask("POST", "knobs", {"provider": provider, **knobs})

    def consistency(self, provider: str, list_delay_s: float) -> None:
        self._ask("POST", "consistency", {"provider": provider, "list_delay_s": list_delay_s})

    def advance(self, seconds: float) -> None:
        self._ask("POST", "clock", {"advance_s": seconds})

    def node(self, id: str, **change: JsonValue) -> None:
        """`preempt=True`, `vanish=True`, `stop=True`, `unhealthy=True`, `set={...}`."""
        self._ask("POST", f"nodes/{id}", change)

    def reset(self) -> None:
        self._ask("POST", "reset")
        self.exchanges.clear()

    def _ask(self, method: str, path: str, body: Mapping[str, JsonValue] | None = None) -> Any:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=_PATIENCE_SECONDS)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, f"/_emulator/{path}", content, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
            assert response.status < 300, f"{method} {path}: {answer.decode()}"
            return json.loads(answer) if answer else None
        finally:
            connection.close()


@contextmanager
def emulated(clock: Clock, names: Sequence[str], *, seed: int = 0) -> Iterator[Emulated]:
    """Serve fresh emulators of these provider types for as long as the block lasts."""
    desk = RecordingDesk(World(clock, seed=seed), emulator_types(names))
    with serving(desk) as url:
        yield Emulated(url, desk.exchanges)
