"""How a command reaches a node's shell without showing in its process list. Pure; used by `ssh_channel`.

The words that sshd is given name neither the command nor its environment: they start a shell that reads a script from
its standard input. The same input is a leash: when it ends before the command does, because whoever waited is gone, the
command is ended with all its process group.
"""

import re
import shlex
from collections.abc import Mapping
from typing import NamedTuple

CUT_OFF = 75
"""Exit status when the script did not arrive in full; nothing of it was run."""
NO_WORKSPACE = 126
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# No single quote and no line end may be in here: users' login shells, fish and csh too, take it as one quoted word.
_READ = (
    r'i={lines}; n=$(printf "\n."); n=${{n%.}}; s=; '
    "while [ $i -gt 0 ] && IFS= read -r l; do s=$s$l$n; i=$((i-1)); done; [ $i -eq 0 ] || exit {cut_off}; "
)
_LEASHED = (
    "exec 3<&0 </dev/null; "
    '(trap "" TERM HUP; while IFS= read -r l; do :; done; '
    "kill -s TERM -- -$$ || kill -s TERM $$; sleep 2; kill -s KILL -- -$$) <&3 >/dev/null 2>&1 & w=$!; exec 3<&-; "
    '(unset i n l w; eval "$s"); r=$?; kill -s KILL $w 2>/dev/null; exit $r'
)
_FED = 'unset i n l; eval "$s"'


class Script(NamedTuple):
    """`words` go to sshd; `text` is the beginning of the standard input."""

    words: str
    text: bytes


def leashed(command: str, *, env: Mapping[str, str], workspace: str) -> Script:
    """A command without input; the standard input must stay open as long as it shall run. Raises ValueError for a
    name that no shell can set."""
    return _script(_LEASHED, command, env, workspace)


def fed(command: str, *, env: Mapping[str, str], workspace: str) -> Script:
    """A command whose own standard input is what follows the text. Raises ValueError as above."""
    return _script(_FED, command, env, workspace)


def _script(runner: str, command: str, env: Mapping[str, str], workspace: str) -> Script:
    text = f"{_setting(env, workspace)}\n{command}\n"
    read = _READ.format(lines=text.count("\n"), cut_off=CUT_OFF)
    return Script(f"exec sh -c '{read}{runner}'", text.encode())


def _setting(env: Mapping[str, str], workspace: str) -> str:
    wrong = sorted(name for name in env if not _NAME.fullmatch(name))
    if wrong:
        raise ValueError(f"`{wrong[0]}` is no name that a shell can set")
    lines = [f"export {name}={shlex.quote(value)}" for name, value in env.items()]
    place = shlex.quote(workspace)
    lines.append(f"mkdir -p -- {place} && cd -- {place} || exit {NO_WORKSPACE}")
    lines.append('export GPUPLAN_WORKSPACE="$PWD"')
    return "\n".join(lines)
