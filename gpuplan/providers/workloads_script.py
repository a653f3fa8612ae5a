"""What services and jobs are on a node: the shell scripts that make, keep, show and end a unit. Pure; by `workloads`.

A unit is a folder `.gpuplan/units/TOKEN` in the workspace: what it runs, its environment (mode 0600), its mark, its
log, and `state`. A node needs nothing but a POSIX shell, `setsid` and `/proc`.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

UNITS = ".gpuplan/units"
LOG_BYTES = 10_000_000
"""A longer log is begun anew; one earlier part is kept."""

SUPERVISOR = r"""
cd -- "$1" || exit 1
mkdir up 2>/dev/null || exit 0
exec >/dev/null 2>&1 </dev/null
. ./unit.conf
born() { sed 's/.*) //' "/proc/$1/stat" | cut -d' ' -f20; }
say() { printf '%s\n' "$*" >state.new && mv state.new state; }
printf '%s %s\n' "$$" "$(born $$)" >up/pid
tries=0
delay=1
watched() {
    seconds=0
    while sleep 1; do
        seconds=$((seconds + 1))
        if [ ! -e unit.conf ] || [ -e stop ]; then break; fi
        if [ "$(wc -c <log)" -gt "$log_bytes" ]; then cp log log.1 && : >log; fi
        if [ "$timeout" -gt 0 ] && [ "$seconds" -ge "$timeout" ]; then : >late; break; fi
    done
    kill -s TERM -- "-$child"
    [ -z "$container" ] || docker stop "$container" || podman stop "$container"
    sleep 5
    kill -s KILL -- "-$child"
}
while :; do
    rm -f late
    setsid sh ./run >>log 2>&1 &
    child=$!
    say running "$child" "$tries"
    watched &
    watch=$!
    wait "$child"
    code=$?
    kill -s KILL "$watch"
    kill -s KILL -- "-$child"
    [ -e unit.conf ] || exit 0
    if [ -e stop ]; then say cancelled "$code" "$tries"; exit 0; fi
    if [ -e late ]; then how=late; else how=ended; fi
    case $restart in
    always) ;;
    on-failure) if [ "$code" -eq 0 ]; then say ended 0 "$tries"; exit 0; fi ;;
    never) say "$how" "$code" "$tries"; exit 0 ;;
    *)
        if [ "$code" -eq 0 ] || [ "$tries" -ge "$restart" ]; then say "$how" "$code" "$tries"; exit 0; fi ;;
    esac
    tries=$((tries + 1))
    say waiting "$code" "$tries"
    sleep "$delay"
    if [ ! -e unit.conf ] || [ -e stop ]; then say cancelled "$code" "$tries"; exit 0; fi
    if [ "$delay" -lt 60 ]; then delay=$((delay * 2)); fi
done
"""

_ALIVE = r"""
alive() {
    [ -r "$1/up/pid" ] && read -r pid born <"$1/up/pid" &&
        [ "$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | cut -d' ' -f20)" = "$born" ]
}
"""

_LIST = (
    _ALIVE
    + r"""
cd """
    + UNITS
    + r""" 2>/dev/null || exit 0
for unit in *; do
    [ -e "$unit/unit.conf" ] || continue
    if alive "$unit"; then up=up; else up=down; fi
    printf '%s\t%s\t%s\t%s\n' "$unit" "$up" "$(cat "$unit/state" 2>/dev/null)" "$(cat "$unit/mark")"
done
"""
)


@dataclass(frozen=True, slots=True)
class Unit:
    """What shall run. `restart` is `always`, `on-failure`, `never`, or how often a job is tried again."""

    token: str
    command: str | Sequence[str] | None
    image: str | None
    env: Mapping[str, str]
    ports: Sequence[int]
    restart: str
    timeout_seconds: int
    mark: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Seen:
    """One unit as its node tells it. `words` are those of the state file: how it stands, a number, how often tried."""

    token: str
    is_up: bool
    words: Sequence[str]
    mark: Mapping[str, object]


def create_script(unit: Unit) -> str:
    """Makes the folder of a unit; again, the same. What a container needs is looked for first: status 3 without it."""
    place = f"{UNITS}/{unit.token}"
    container = f"gpuplan-{unit.token}" if unit.image else ""
    conf = f"restart={shlex.quote(unit.restart)}\ntimeout={unit.timeout_seconds}\nlog_bytes={LOG_BYTES}\n"
    files = {
        "env": "".join(f"export {name}={shlex.quote(value)}\n" for name, value in unit.env.items()),
        "run": _run(unit),
        "command": _command(unit),
        "mark": json.dumps(unit.mark),
        "supervise": SUPERVISOR,
        "unit.conf": f"{conf}container={container}\n",
    }
    writes = [f"printf %s {shlex.quote(text)} >{place}/{name}" for name, text in files.items()]
    lines = ["umask 077", f"[ -e {place}/unit.conf ] && exit 0", f"mkdir -p {place} || exit 1"]
    if unit.image:
        lines.insert(0, "command -v docker >/dev/null || command -v podman >/dev/null || exit 3")
    return "\n".join([*lines, " &&\n".join(writes)])


def start_script(token: str) -> str:
    place = f"{UNITS}/{token}"
    return f"setsid sh {place}/supervise {place} </dev/null >/dev/null 2>&1 &"


def list_script() -> str:
    return _LIST


def stop_script(token: str, *, remove: bool) -> str:
    """Ends a unit and waits for it. With `remove` nothing of it is left."""
    place = f"{UNITS}/{token}"
    lines = [
        _ALIVE,
        f"[ -d {place} ] || exit 0",
        f": >{place}/stop",
        "i=0",
        f"while alive {place} && [ $i -lt 90 ]; do sleep 0.1; i=$((i+1)); done",
    ]
    if remove:
        lines.append(f"if alive {place}; then exit 4; fi; rm -rf {place}")
    return "\n".join(lines)


def log_command(token: str, *, follow: bool, tail: int | None) -> str:
    lines = "+1" if tail is None else str(tail)
    place = f"{UNITS}/{token}"
    if not follow:
        return f"tail -n {lines} {place}/log 2>/dev/null"
    # `tail` alone would go on for ever.
    ends = f"while [ -e {place}/unit.conf ] && alive {place}; do sleep 0.5; done; sleep 0.5; kill $follower"
    return f"{_ALIVE}\ntail -n {lines} -f {place}/log & follower=$!\n{ends}\nwait $follower 2>/dev/null; exit 0"


def parse_units(lines: Sequence[str]) -> list[Seen]:
    found = []
    for line in lines:
        token, up, state, mark = line.split("\t", 3)
        found.append(Seen(token, up == "up", state.split(), json.loads(mark)))
    return found


def _run(unit: Unit) -> str:
    """The program of a unit: its environment, then what becomes of it. No secret is among its words."""
    if not unit.image:
        return 'here=$PWD; . ./env; cd ../../.. || exit 1; export GPUPLAN_WORKSPACE="$PWD"; exec sh "$here/command"\n'
    words = ["run", "--rm", "--name", f"gpuplan-{unit.token}"]
    for name in unit.env:
        words += ["--env", name]
    for port in unit.ports:
        words += ["--publish", f"{port}:{port}"]
    asked = unit.command
    after = ["sh", "-c", asked] if isinstance(asked, str) else [*(asked or ())]
    gpus = 'gpus=; [ -e /dev/nvidiactl ] && gpus="--gpus all"'
    engine = "engine=docker; command -v docker >/dev/null || engine=podman"
    return f'. ./env; {gpus}; {engine}; exec "$engine" {shlex.join(words)} $gpus {shlex.join([unit.image, *after])}\n'


def _command(unit: Unit) -> str:
    if unit.command is None or unit.image:
        return ""
    return f"{unit.command}\n" if isinstance(unit.command, str) else f"exec {shlex.join(unit.command)}\n"
