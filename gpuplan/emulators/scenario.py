"""Scenario files: how the emulated world is to begin, and what befalls it when.

    speed: 60
    knobs: {vultr: {boot_seconds: 900}}
    stock: [{provider: vultr, gpu: A100-80GB, available: 4}]
    faults: [{provider: vultr, method: POST, kind: status_after, probability: 0.1}]
    events:
      - {at: 10m, preempt: {provider: vultr, share: 0.5}}

Every entry is the body of a control call of that name; `preempt` loses some of a provider's nodes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from math import ceil

from gpuplan.core.units import parse_duration
from gpuplan.core.values import JsonValue
from gpuplan.emulators.control import WRITES, NotUnderstood, Types
from gpuplan.emulators.http import Json
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import World

LISTS = ("stock", "faults", "consistency")


@dataclass(frozen=True, slots=True)
class Step:
    """A control call that is due some time after the scenario begins."""

    at_seconds: float
    call: str
    body: Json


@dataclass(frozen=True, slots=True)
class Scenario:
    steps: tuple[Step, ...] = ()


def read_scenario(text: str) -> Scenario:
    """Raises NotUnderstood for anything but a scenario; bodies are checked when they are due."""
    import yaml

    try:
        content = yaml.safe_load(text) or {}
    except yaml.YAMLError as exc:
        raise NotUnderstood(f"a scenario is YAML: {exc}") from exc
    if not isinstance(content, dict):
        raise NotUnderstood("a scenario is a mapping")
    steps: list[Step] = []
    for name, value in content.items():
        match name:
            case "speed":
                steps.append(Step(0, "clock", {"speed": value}))
            case "knobs":
                steps += [
                    Step(0, "knobs", {"provider": p, **_mapping(knobs, p)})
                    for p, knobs in _mapping(value, name).items()
                ]
            case "events":
                steps += [_event(event) for event in _items(value, name)]
            case _ if name in LISTS:
                steps += [Step(0, name, _mapping(body, name)) for body in _items(value, name)]
            case _:
                raise NotUnderstood(f"a scenario has no `{name}`: it has speed, knobs, events, {', '.join(LISTS)}")
    return Scenario(tuple(sorted(steps, key=lambda step: step.at_seconds)))


class Director:
    """Plays a scenario: what is due by now happens before the next request is answered."""

    def __init__(self, world: World, types: Types, scenario: Scenario) -> None:
        self._world = world
        self._types = types
        self._begun = world.time.now()
        self._left = list(scenario.steps)

    def catch_up(self) -> None:
        """Raises NotUnderstood for a body that its control call does not take."""
        while self._left and self._world.time.now() >= self._begun + timedelta(seconds=self._left[0].at_seconds):
            step = self._left.pop(0)
            CALLS[step.call](self._world, self._types, step.body)


def preempt_some(world: World, types: Types, body: Json) -> None:
    """Lose `count` nodes of a `provider`, or a `share` of them between 0 and 1; which ones is chance."""
    emulator = types.get(str(body.get("provider")))
    if emulator is None:
        raise NotUnderstood("say of which `provider` nodes are preempted")
    nodes = list(world.living[emulator.name, "node"].values())
    share, count = body.get("share"), body.get("count")
    if isinstance(share, (int, float)):
        count = ceil(len(nodes) * share)
    if not isinstance(count, int):
        raise NotUnderstood("say how many nodes are preempted: `count` or `share`")
    for thing in world.random.sample(nodes, min(count, len(nodes))):
        emulator.preempt(Site(emulator, world), thing)


CALLS: Mapping[str, Callable[[World, Types, Json], None]] = {**WRITES, "preempt": preempt_some}


def _event(event: JsonValue) -> Step:
    fields = _mapping(event, "events")
    at = fields.pop("at", None)
    if len(fields) != 1 or (name := next(iter(fields))) not in CALLS:
        raise NotUnderstood(f"an event has `at` and one of {', '.join(sorted(CALLS))}")
    try:
        seconds = parse_duration(str(at))
    except ValueError as exc:
        raise NotUnderstood(f"`at` of an event: {exc}") from exc
    return Step(seconds, name, _mapping(fields[name], name))


def _items(value: JsonValue, name: str) -> Sequence[JsonValue]:
    if not isinstance(value, list):
        raise NotUnderstood(f"`{name}` is a list")
    return value


def _mapping(value: JsonValue, name: str) -> Json:
    if not isinstance(value, Mapping):
        raise NotUnderstood(f"`{name}` holds a mapping")
    return dict(value)
