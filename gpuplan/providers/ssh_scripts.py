"""What is run on a machine, as scripts for `sh`. Pure; `ssh_reach` sends them, `ssh_seen` reads what they tell.

They run in the machine's gpuplan folder, where this lies:

    id              names the folder for ever, and its machine: two entries of an inventory that lead here are one
    claim           who has the machine: a line with the token, a line of JSON. It appears in one step, by `ln`
    node-TOKEN/     workspace/, log, command.sh, restart, stopped, keep.sh, and what keep.sh says: keeper, phase

Whatever changes something holds the lock of the folder, which ends with its process. Every line that is told begins
with a marker, so that nothing a login prints is taken for it.
"""

import shlex
from collections.abc import Mapping, Sequence

HELD, BUSY, ELSEWHERE, GONE, LEFT_OVER = 85, 86, 87, 88, 89
"""Exit statuses: somebody else's, locked for too long, the folder is another machine's, no such claim, a file of the
node that cannot be removed."""
STOPPED = "stopped"
"""A file of the node: nothing is started while it is there."""
_LOCK_SECONDS = 30
_TOOL_SECONDS = 30

_WORDS = r"""
LC_ALL=C PATH=$PATH:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/opt/rocm/bin:/usr/lib/wsl/lib
export LC_ALL PATH
umask 022
D=$PWD
say() { while IFS= read -r l || [ -n "$l" ]; do printf '%s %s %s\n' "$M" "$1" "$l"; done; }
born() {
  s=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  s=${s##*) }; set -- $s
  case $1 in Z | X) return 1 ;; esac
  echo "${20}"
}
boot() { cat /proc/sys/kernel/random/boot_id; }
holder() { t=; [ -f claim ] && read -r t <claim; echo "$t"; }
alive() {
  p= b= o=; [ -f "$1/keeper" ] && read -r p b o <"$1/keeper"
  [ -n "$o" ] && [ "$o" = "$(boot)" ] && [ "$(born "$p")" = "$b" ]
}
lock() {
  command -v flock >/dev/null && command -v setsid >/dev/null || { echo "there is no flock or no setsid" >&2; exit 1; }
  exec 9<.
  flock -w $LOCK_SECONDS 9 || exit $BUSY
  identify
}
machine() { [ -s /etc/machine-id ] && cat /etc/machine-id || uname -n; }
identify() {
  if [ ! -s id ]; then
    printf '%s %s\n' "$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')" "$(machine)" >"id.$$"
    ln "id.$$" id 2>/dev/null
    rm -f "id.$$"
  fi
  m=; [ -f id ] && read -r i m <id
  [ -z "$m" ] || [ "$m" = "$(machine)" ] || exit $ELSEWHERE
}
tell() {
  identify
  [ -f id ] && say id <id
  boot | say boot
  [ -e claim ] || return 0
  echo yes | say held
  say claim <claim
  n=$D/node-$(holder)
  [ -d "$n" ] || return 0
  echo "$n" | say folder
  [ -e "$n/stopped" ] && echo yes | say stopped
  [ -f "$n/command.sh" ] && echo yes | say command
  [ -f "$n/keeper" ] && say keeper <"$n/keeper"
  alive "$n" && echo yes | say alive
  [ -f "$n/phase" ] && say phase <"$n/phase"
  return 0
}
"""

_MACHINE = r"""
tool() {
  k=$1; shift
  o=$(timeout -k 5 $TOOL_SECONDS "$@" 2>&1 9<&-); r=$?
  case $k:$r in
    *:0) printf '%s\n' "$o" | say "$k" ;;
    nvidia:6 | computing:*) ;;
    *) printf '%s\n' "$1 exits $r: $o" | head -n 1 | say trouble ;;
  esac
}
if command -v nvidia-smi >/dev/null; then
  echo nvidia-smi | say tool
  tool nvidia nvidia-smi --query-gpu=uuid,name,memory.total --format=csv,noheader,nounits
  tool computing nvidia-smi --query-compute-apps=pid,process_name --format=csv,noheader
fi
if command -v rocm-smi >/dev/null; then
  echo rocm-smi | say tool
  tool rocm rocm-smi --showproductname --json
fi
nproc 2>/dev/null | say cpu
awk '/^MemTotal/ {print $2}' /proc/meminfo | say memory
df -Pk . | awk 'END {print $4}' | say disk
cat /proc/[0-9]*/comm 2>/dev/null | sort -u | grep -xE 'kubelet|k3s|k3s-server|slurmd|dstack-shim' | say scheduler
"""

_DEEDS = r"""
launch() {
  [ -f "$N/command.sh" ] && [ ! -e "$N/stopped" ] || return 0
  alive "$N" && return 0
  clear
  rm -f "$N/keeper" "$N/phase"
  setsid sh "$N/keep.sh" "$N" "$T" </dev/null >>"$N/log" 2>&1 3<&- 9<&- &
  i=0
  while [ ! -s "$N/keeper" ] && [ $i -lt 50 ]; do sleep 0.1; i=$((i+1)); done
}
end() {
  if alive "$N"; then
    kill -s TERM -- "-$p" 2>/dev/null
    i=0
    while kill -s 0 -- "-$p" 2>/dev/null && [ $i -lt $TENTHS ]; do sleep 0.1; i=$((i+1)); done
    kill -s KILL -- "-$p" 2>/dev/null
  fi
  clear "$@"
  i=0
  while alive "$N" && [ $i -lt 50 ]; do sleep 0.1; i=$((i+1)); done
}
strays() {
  grep -lzsx "GPUPLAN_NODE_ID=$T" /proc/[0-9]*/environ | cut -d/ -f3
  [ "$1" = all ] && ls -ld /proc/[0-9]*/cwd 2>/dev/null |
    awk -v n="$N" '{
      i = index($0, "/cwd -> ")
      if (i && index(substr($0, i + 8), n) == 1) { sub("/cwd -> .*", ""); sub(".*/", ""); print }
    }'
}
clear() {
  c=0
  while [ $c -lt 20 ]; do
    f=$(strays "$@" | sort -u)
    [ -n "$f" ] || return 0
    kill -s KILL $f 2>/dev/null
    sleep 0.1; c=$((c+1))
  done
}
mine() { [ "$(holder)" = "$T" ] || exit $GONE; }
write() { cat >"$1.new" && mv "$1.new" "$1"; }
"""

_KEEP = r"""
N=$1
cd "$N/workspace" || exit 1
export GPUPLAN_NODE_ID="$2" GPUPLAN_WORKSPACE="$PWD"
s=$(cat "/proc/$$/stat"); s=${s##*) }; set -- $s
echo running >"$N/phase"
printf '%s %s %s\n' "$$" "${20}" "$(cat /proc/sys/kernel/random/boot_id)" >"$N/keeper.new"
mv "$N/keeper.new" "$N/keeper"
while :; do
  sh "$N/command.sh"; r=$?
  [ -e "$N/stopped" ] && exit
  case $(cat "$N/restart"):$r in
    always:* | on-failure:[1-9]*) echo "restarting $r" >"$N/phase"; sleep 1 ;;
    *) echo "ended $r" >"$N/phase"; exit ;;
  esac
  echo running >"$N/phase"
done
"""


def look(marker: str, *, machine: bool) -> str:
    """Tell who has the machine and how its node is; with `machine` also what it is made of."""
    return _script(marker, "tell", _MACHINE if machine else "")


def claim(marker: str, token: str, document: str, files: Mapping[str, str]) -> str:
    """Take the machine and start what is to run; what was begun by an earlier attempt is brought to its end."""
    body = f"""
lock
h=$(holder)
[ -z "$h" ] || [ "$h" = "$T" ] || {{ tell; exit {HELD}; }}
[ -n "$h" ] || rm -rf "$D"/node-* 2>/dev/null
mkdir -p "$N/workspace" && chmod 700 "$N" || exit 1
{_written(files)}
if [ -z "$h" ]; then
  printf '%s\\n%s\\n' "$T" {shlex.quote(document)} >"claim.$$" && sync "claim.$$" && ln "claim.$$" claim
  r=$?
  rm -f "claim.$$"
  [ $r = 0 ] || {{ rm -rf "$N"; exit 1; }}
fi
launch
tell"""
    return _script(marker, _deeds(token, 0), body)


def bring_up(marker: str, token: str) -> str:
    """Start what a crash left unstarted."""
    return _script(marker, _deeds(token, 0), "lock; mine; launch; tell")


def change(
    marker: str, token: str, document: str, files: Mapping[str, str], *, restarts: bool, grace_seconds: float
) -> str:
    """Put another document and other files in the place of those of a claim."""
    steps = ['end; rm -f "$N/keeper" "$N/phase"'] if restarts else []
    if "command.sh" not in files:
        steps.append('rm -f "$N/command.sh"')
    body = f"""
lock; mine
{"; ".join(steps) or ":"}
{_written(files)}
printf '%s\\n%s\\n' "$T" {shlex.quote(document)} | write claim || exit 1
launch
tell"""
    return _script(marker, _deeds(token, grace_seconds), body)


def stop(marker: str, token: str, *, grace_seconds: float) -> str:
    return _script(marker, _deeds(token, grace_seconds), 'lock; mine; : >"$N/stopped" || exit 1; end all; tell')


def start(marker: str, token: str) -> str:
    return _script(marker, _deeds(token, 0), 'lock; mine; rm -f "$N/stopped"; launch; tell')


def release(marker: str, token: str, *, grace_seconds: float) -> str:
    """End everything of the node, and give the machine back last. Nothing to do is success."""
    body = f"""
lock
[ "$(holder)" = "$T" ] || {{ rm -rf "$N"; exit 0; }}
: >"$N/stopped"
end all
rm -rf "$N"
[ ! -e "$N" ] || exit {LEFT_OVER}
rm -f claim && sync ."""
    return _script(marker, _deeds(token, grace_seconds), body)


def follow(token: str, *, tail: int | None, until_end: bool) -> str:
    """Print a node's log; with `until_end` until nothing runs there any more."""
    lines = "+1" if tail is None else str(tail)
    node = f"N=$D/node-{shlex.quote(token)}"
    if not until_end:
        return _script("-", f'{node}; [ ! -f "$N/log" ] || tail -n {lines} "$N/log"')
    body = f"""
{node}
[ -f "$N/log" ] || exit 0
tail -n {lines} -f "$N/log" & t=$!
while alive "$N"; do sleep 0.5; done
sleep 0.5
kill "$t\""""
    return _script("-", body)


def command_file(command: str | Sequence[str] | None, env: Mapping[str, str]) -> Mapping[str, str]:
    """The file of what a node runs, with its environment; none for a node that runs nothing by itself."""
    if command is None:
        return {}
    words = command if isinstance(command, str) else f"exec {shlex.join(command)}"
    settings = [f"export {name}={shlex.quote(value)}\n" for name, value in env.items()]
    return {"command.sh": f"{''.join(settings)}{words}\n"}


def _deeds(token: str, grace_seconds: float) -> str:
    return f"T={shlex.quote(token)} TENTHS={max(1, int(grace_seconds * 10))}\nN=$D/node-$T\n{_DEEDS}"


def _written(files: Mapping[str, str]) -> str:
    """Whoever else is on the machine may read none of them."""
    lines = ["(umask 077"]
    for name, content in {**files, "keep.sh": _KEEP}.items():
        lines.append(f'printf %s {shlex.quote(content)} | write "$N/{name}" || exit 1')
    return "\n".join([*lines, ") || exit 1"])


def _script(marker: str, *parts: str) -> str:
    own = f"M={shlex.quote(marker)} LOCK_SECONDS={_LOCK_SECONDS} TOOL_SECONDS={_TOOL_SECONDS}"
    statuses = f"BUSY={BUSY} ELSEWHERE={ELSEWHERE} GONE={GONE}"
    return "\n".join([own, statuses, _WORDS, *parts])
