"""The front desk: leads a request to the provider it is for, or to the control API. In process, or behind `serve`."""

from collections.abc import Mapping
from dataclasses import replace

from gpuplan.emulators.control import PREFIX, control
from gpuplan.emulators.http import Delivery, Request, Response
from gpuplan.emulators.scenario import Director, Scenario
from gpuplan.emulators.site import EmulatorType, Site
from gpuplan.emulators.world import World


class Desk:
    """All emulators of one world. `at_root` is the provider that also answers paths without a mount, for clients whose
    base URL can be no more than a host."""

    def __init__(
        self, world: World, types: Mapping[str, EmulatorType], *, scenario: Scenario | None = None, at_root: str = ""
    ) -> None:
        self.world = world
        self.types = types
        self._director = Director(world, types, scenario or Scenario())
        self._at_root = at_root

    def answer(self, request: Request) -> Delivery:
        """`request.path` is the whole path of the URL."""
        self._director.catch_up()
        if request.path.startswith(f"{PREFIX}/"):
            return Delivery(control(self.world, self.types, request))
        mount, _, rest = request.path.lstrip("/").partition("/")
        if mount in self.types:
            return Site(self.types[mount], self.world).visit(replace(request, path=f"/{rest}"))
        if self._at_root:
            return Site(self.types[self._at_root], self.world).visit(request)
        known = ", ".join(f"/{name}" for name in sorted(self.types))
        return Delivery(Response(404, {"error": f"nothing here: there are {known} and {PREFIX}"}))
