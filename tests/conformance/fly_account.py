"""What the stories about `fly` share: an account in this process, and what one does there."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import Offer
from gpuplan.core.ports import Provider, Want
from gpuplan.core.values import Value
from gpuplan.emulators.fly_machines import break_down
from gpuplan.emulators.http import Request
from gpuplan.emulators.http import Response as Answered
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import Shelf, Thing
from gpuplan.net.http_provider import THROWAWAY_KEY
from gpuplan.providers.fly import PROVIDER
from gpuplan.testing.in_process import InProcessAccount

NODE: dict[str, Value] = {"instance_type": "performance-2x", "region": "ord", "image": "ubuntu:24.04"}
VOLUME: dict[str, Value] = {"size_gb": 10, "region": "ord"}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpBYoKqHmF3jr7xkmI9YvNMM2bIXcSJ8vMfQ2vFKq1t ana"


class FlyAccount(InProcessAccount):
    def __init__(self, **knobs: Any) -> None:
        super().__init__(PROVIDER, **knobs)

    def ask(self, kind: Kind = Kind.NODE, **attrs: Value) -> tuple[Want, Mark]:
        address = Address("volumes", "data") if kind is Kind.VOLUME else Address("clusters", "train", None, 0)
        mark = Mark(self.clock.token(), "llama", "default", "lineage", address)
        return Want(address, kind, {**(VOLUME if kind is Kind.VOLUME else NODE), **attrs}, "train-0"), mark

    async def create(
        self, provider: Provider, kind: Kind = Kind.NODE, offer: Offer | None = None, **attrs: Value
    ) -> Observed:
        want, mark = self.ask(kind, **attrs)
        return await provider.create(replace(want, offer=offer), mark, {})

    async def up(self, provider: Provider, **attrs: Value) -> Observed:
        return await self.until(provider, await self.create(provider, **attrs), Status.RUNNING)

    async def until(self, provider: Provider, seen: Observed, status: Status) -> Observed:
        for _ in range(60):
            if seen.status is status:
                return seen
            await self.clock.sleep(1)
            now = await provider.get(seen.kind, seen.remote_id)
            assert now is not None
            seen = now
        raise AssertionError(f"it is {seen.status}")

    async def listed(self, provider: Provider) -> Sequence[Observed]:
        return (await provider.list(Kind.NODE, frozenset())).objects

    def changed(self, attrs: dict[str, Value], **changes: Value) -> Want:
        """An update of a node that had `attrs` besides the usual."""
        want, _ = self.ask(**{**attrs, **changes})
        return replace(want, update=frozenset(changes))

    def things(self, kind: str = "node") -> list[Thing]:
        return list(self.world.living["fly", kind].values())

    @property
    def machine(self) -> Thing:
        """The only one."""
        (machine,) = self.things()
        return machine

    def config(self) -> dict[str, Any]:
        config = self.machine.body["config"]
        assert isinstance(config, dict)
        return config

    def break_down(self) -> None:
        break_down(Site(self.desk.types["fly"], self.world), self.machine)

    def sell_out(self, shelf: str = "performance-2x") -> None:
        self.world.shelves["fly", shelf, ""] = Shelf(available=0)

    def send(self, method: str, path: str, body: object = None, *, key: str = THROWAWAY_KEY, **query: str) -> Answered:
        """As somebody else with a key, by whatever tool."""
        content = b"" if body is None else json.dumps(body).encode()
        headers = {"authorization": f"Bearer {key}"}
        parameters = {name: [value] for name, value in query.items()}
        return self.desk.answer(Request(method, f"/fly/v1{path}", parameters, headers, content)).response

    def routes(self, method: str) -> Sequence[str]:
        return [visit.route for visit in self.world.visits if visit.method == method]
