"""An account at the emulated Hetzner Cloud, in process and in virtual time, and what tests do with it."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.ports import CanUpdate, Provider, Want
from gpuplan.core.values import Value
from gpuplan.emulators.http import Request
from gpuplan.providers.hetzner import PROVIDER
from gpuplan.testing.emulated import RecordingDesk
from gpuplan.testing.in_process import InProcessAccount, InProcessWire, with_wire

NODE: Mapping[str, Value] = {"instance_type": "cpx22", "region": "fsn1"}
NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpBYoKqHmF3jr7xkmI9YvNMM2bIXcSJ8vMfQ2vFKq1t team@example.com"
SECTIONS = {Kind.NODE: "clusters", Kind.VOLUME: "volumes", Kind.NETWORK: "networks", Kind.SSH_KEY: "ssh_keys"}


class RecordedAccount(InProcessAccount):
    """An account whose every exchange is written down."""

    desk: RecordingDesk

    def __init__(self) -> None:
        super().__init__(PROVIDER)
        self.desk = RecordingDesk(self.world, self.desk.types)
        self._type = with_wire(PROVIDER, InProcessWire(self.desk, self.clock))


def ask(account: InProcessAccount, kind: Kind, **attrs: Value) -> tuple[Want, Mark]:
    token = account.clock.token()
    address = Address(SECTIONS[kind], "train", None, 0 if kind is Kind.NODE else None)
    return Want(address, kind, attrs, f"train-{token}"), Mark(token, "llama", "default", "lineage", address)


async def create(account: InProcessAccount, provider: Provider, kind: Kind = Kind.NODE, **attrs: Value) -> Observed:
    return await provider.create(*ask(account, kind, **(attrs or NODE)), {})


async def until(account: InProcessAccount, provider: Provider, seen: Observed, status: Status) -> Observed:
    for _ in range(200):
        if seen.status is status:
            return seen
        await account.clock.sleep(5)
        now = await provider.get(seen.kind, seen.remote_id)
        assert now is not None
        seen = now
    raise AssertionError(f"it is {seen.status}")


async def running(account: InProcessAccount, provider: Provider, **attrs: Value) -> Observed:
    return await until(account, provider, await create(account, provider, **(attrs or NODE)), Status.RUNNING)


async def update(account: InProcessAccount, provider: Provider, seen: Observed, **attrs: Value) -> Observed:
    assert isinstance(provider, CanUpdate)
    want, _ = ask(account, seen.kind, **attrs)
    return await provider.update(replace(want, update=frozenset(attrs)), seen.remote_id, {})


def sent(account: InProcessAccount, method: str, route: str) -> int:
    """How often a call was received."""
    return sum((method, route) == (visit.method, visit.route) for visit in account.world.visits)


def shown(account: InProcessAccount, path: str, method: str = "GET", **query: str) -> Any:
    """What the emulator answers to somebody else with the same key."""
    headers = {"authorization": "Bearer gpuplan-emulator"}
    parameters = {name: [value] for name, value in query.items()}
    return json.loads(account.desk.answer(Request(method, f"/hetzner/v1{path}", parameters, headers)).response.content)
