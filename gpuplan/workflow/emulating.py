"""Serve the emulators: a world of them by provider type, with what a scenario does to it.

Called by `emulate`, and in part by `rehearsing`.
"""

from collections.abc import Callable, Sequence

from gpuplan.core.diagnostics import Diagnostic
from gpuplan.core.encoding import decode_time
from gpuplan.core.errors import GpuplanError
from gpuplan.core.nearest import did_you_mean
from gpuplan.core.ports import Clock
from gpuplan.emulators.catalog import emulator_names, emulator_types
from gpuplan.emulators.control import NotUnderstood, Types
from gpuplan.emulators.desk import Desk
from gpuplan.emulators.scenario import CALLS, Scenario, Step, read_scenario
from gpuplan.emulators.world import World

_CLOCK_PATIENCE_SECONDS = 5

HOST = "127.0.0.1"
"""Whoever reaches an emulator may log in to its nodes, so nobody else ever does."""


def make_desk(names: Sequence[str], clock: Clock, *, scenario: str | None, speed: float | None) -> Desk:
    """Emulators of these provider types, all when none is named. `speed` counts more than the scenario's.

    Raises GpuplanError for a type without an emulator, and for a scenario that cannot be played to its end.
    """
    types = _types(names)
    steps = () if scenario is None else played(scenario, types, clock).steps
    if speed is not None:
        steps = tuple(sorted((*steps, Step(0, "clock", {"speed": speed})), key=lambda step: step.at_seconds))
    return Desk(World(clock), types, scenario=Scenario(steps))


def serve(desk: Desk, port: int, announce: Callable[[str], None]) -> None:
    """Until SIGINT or SIGTERM. Raises GpuplanError when the extra is not installed, or the port is taken."""
    try:
        from gpuplan.emulators.serve import run
    except ModuleNotFoundError as exc:
        raise extra_missing(exc.name or "") from exc
    try:
        run(desk, host=HOST, port=port, announce=announce)
    except OSError as exc:
        raise _port_taken(port, exc) from exc


def clock_of(url: str) -> Clock:
    """The clock of a running emulator: whoever waits for its nodes waits by its time. Where nobody answers it is real
    time, and the first request to a provider will say why."""
    import http.client
    import json
    from urllib.parse import urlsplit

    from gpuplan.net.clock import ScaledClock, SystemClock

    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_CLOCK_PATIENCE_SECONDS)
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}/_emulator/clock")
        told = json.loads(connection.getresponse().read())
        return ScaledClock(decode_time(told["now"]), float(told["speed"]))
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return SystemClock()
    finally:
        connection.close()


def _types(names: Sequence[str]) -> Types:
    known = emulator_names()
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known) or f"there are {', '.join(known)}"
            raise _refusal("no-emulator", f"there is no emulator of `{name}`", hint=hint)
    return emulator_types(names)


def played(text: str, types: Types, clock: Clock) -> Scenario:
    """The scenario, once every step of it was understood by a world that nobody sees; what befalls other emulators than
    these is left out. Raises GpuplanError."""
    world, others = World(clock), set(emulator_names()) - types.keys()
    try:
        steps = read_scenario(text).steps
        scenario = Scenario(tuple(step for step in steps if step.body.get("provider") not in others))
        for step in scenario.steps:
            CALLS[step.call](world, types, step.body)
    except NotUnderstood as exc:
        raise _refusal("scenario", "the scenario cannot be played", facts=(str(exc),)) from exc
    return scenario


def extra_missing(module: str) -> GpuplanError:
    return _refusal(
        "emulator-extra-missing",
        "serving emulators needs packages that are not installed",
        facts=(f"there is no module `{module}`",),
        hint="install what they need",
        commands=("pip install 'gpuplan[emulator]'",),
    )


def _port_taken(port: int, error: OSError) -> GpuplanError:
    return _refusal(
        "emulator-port",
        f"the emulators cannot be served at port {port} of this machine",
        facts=(f"the system says: {(error.strerror or str(error)).lower()}", "SSH takes the port after it"),
        hint="`--port 0` finds two that are free",
    )


def _refusal(
    id: str, summary: str, *, facts: tuple[str, ...] = (), hint: str | None = None, commands: tuple[str, ...] = ()
) -> GpuplanError:
    return GpuplanError(diagnostics=(Diagnostic(id=id, summary=summary, facts=facts, hint=hint, commands=commands),))
