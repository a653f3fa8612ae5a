"""Templates at Lium: image, variables and ports of a pod are its template's. `lium_pods` asks for one per pod."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from gpuplan.core.errors import OutcomeUnknown, ProtocolMismatch
from gpuplan.core.kinds import NodeAttrs
from gpuplan.net.api import Api
from gpuplan.providers import lium_bodies as bodies
from gpuplan.providers.lium_bodies import Unfit
from gpuplan.providers.lium_tables import TEMPLATE, TEMPLATES
from gpuplan.providers.lium_wire import Body, Image, Template


@dataclass(frozen=True, slots=True)
class Chosen:
    """The template of one pod. `recipe` is what it was made of, where it was made for it."""

    id: str
    recipe: str = ""


class Templates:
    """Those of one account."""

    def __init__(self, api: Api) -> None:
        self._api = api
        # Lium cannot delete one, and drops it with its pod: one whose pod came to nothing is for the next.
        self._spare: dict[str, list[Chosen]] = {}

    async def of(self, name: str, asked: NodeAttrs, machine: str, driver: str, to: str) -> Chosen:
        """What a pod will run: its own where it asks for anything that is in a template. Raises Unfit."""
        if chosen := bodies.options_of(asked).template:
            found = await self._api.find("GET", TEMPLATE, chosen, answer=Template, to=to)
            if found is None or found.is_broken:
                raise Unfit(f"the account has no template `{chosen}` that can be used")
            return Chosen(chosen)
        if asked.image:
            return await self._made(bodies.to_template(name, asked, bodies.image_of(asked.image)), to)
        default = await self._default(machine, driver, to)
        if not bodies.needs_template(asked):
            return Chosen(default.id)
        return await self._made(bodies.to_template(name, asked, default), to)

    def put_back(self, chosen: Chosen) -> None:
        """Its pod was refused."""
        if chosen.recipe:
            self._spare.setdefault(chosen.recipe, []).append(chosen)

    async def _made(self, body: Body, to: str) -> Chosen:
        recipe = json.dumps({**body, "name": ""}, sort_keys=True)
        if spare := self._spare.get(recipe):
            return spare.pop()
        # After an update a node has another template: one name must not stand for both.
        body = {**body, "name": f"{body['name']}-{hashlib.sha256(recipe.encode()).hexdigest()[:8]}"}
        try:
            made = await self._api.call("POST", TEMPLATES, json=body, answer=Template, to=to)
        except (OutcomeUnknown, ProtocolMismatch):
            named = [template for template in await self._all(to) if template.name == body["name"]]
            if not named:
                raise
            made = named[0]
        if made.is_broken:
            raise Unfit(f"Lium cannot use the image `{made.reference}`")
        return Chosen(made.id, recipe)

    async def _default(self, machine: str, driver: str, to: str) -> Template:
        """What Lium recommends for such hosts."""

        async def read() -> Template | None:
            query = {"gpu_model": machine or None, "driver_version": driver or None}
            route = "/executors/default-docker-image"
            images = await self._api.call("GET", route, query=query, answer=tuple[Image, ...], to=to)
            return bodies.best_template(images, await self._all(to))

        found = await self._api.remembered(f"default template for {machine} {driver}", read)
        if found is None:
            raise Unfit("Lium recommends no template for this host: name an `image`")
        return found

    async def _all(self, to: str) -> Sequence[Template]:
        return await self._api.call("GET", TEMPLATES, answer=tuple[Template, ...], to=to)
