"""The program that keeps one local node: started by `local_node`, detached from gpuplan, one per running node.

It runs in the node's folder as `python -I -S local_supervisor.py keep`, starts the command of `node.json`, restarts it
when asked to, and writes `status.json` at every turn. Signals steer it: TERM stops the node, USR1 stops and removes it,
HUP reads `node.json` again and restarts the command. `once` runs a single command (setup) for as long as whoever asked
holds the other end of its standard input.

Whatever a command starts stays its descendant, so nothing outlives the node. Only the standard library is imported,
and little of it: a supervisor starts in some ten milliseconds and sleeps in one read.
"""
# pathlib would double the start time of every node.
# ruff: noqa: PTH101, PTH104, PTH105, PTH106, PTH108, PTH109, PTH110, PTH115, PTH118, PTH120, PTH123, PTH208

import contextlib
import fcntl
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping

LOCK, NODE, STATUS, LOG, WORKSPACE = "lock", "node.json", "status.json", "log", "workspace"
SCRATCH = "scratch"
MINUTE = 60
"""How often a supervisor looks up: has the command run well, is the folder still there."""
LONGEST_BACKOFF_SECONDS = 30
GOALS = ("run", "reload", "stop", "remove")
"""What a node is on its way to; a later one is not given up for an earlier one."""
UNSEEN = 'c=$(cat <&3); exec 3<&-; eval "unset c; $c"'
"""Runs what descriptor 3 has to say, which as an argument would show in the process list."""
_PR_SET_CHILD_SUBREAPER = 36


def born(pid: int) -> str:
    """When and where a process was started, as a text no other process of that number ever shares; empty if it is dead.

    On Linux `BOOT/NAMESPACE/TICKS`.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat, open("/proc/sys/kernel/random/boot_id", encoding="ascii") as boot:
            # The command name may contain spaces and brackets: fields count from its last bracket.
            fields = stat.read().rpartition(b")")[2].split()
            if fields[0] in (b"Z", b"X"):
                return ""
            return f"{boot.read().strip()}/{os.readlink('/proc/self/ns/pid')}/{int(fields[19])}"
    except (FileNotFoundError, ProcessLookupError):
        if os.path.exists("/proc/self/stat"):
            return ""
    with os.popen(f"ps -o lstart= -p {pid}") as ps:
        return ps.read().strip()


def remove_tree(folder: str) -> None:
    """Remove a folder with read-only parts in it; whatever another remover took away first is fine. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.chmod(folder, 0o700)
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    remove_tree(entry.path)
                else:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(entry.path)
        os.rmdir(folder)


def become_subreaper() -> None:
    """Orphaned descendants become our children (Linux), so that they can be found and ended."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children() -> list[int]:
    """Our own children. They cannot vanish before we reap them, so their numbers are theirs."""
    me, found = os.getpid(), []
    for name in os.listdir("/proc") if os.path.exists("/proc/self/stat") else ():
        if name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{name}/stat", "rb") as stat:
                if int(stat.read().rpartition(b")")[2].split()[1]) == me:
                    found.append(int(name))
    return found


def end_descendants() -> None:
    """Kill and reap until there is none left; killing a parent hands its children to us."""
    with contextlib.suppress(ChildProcessError):
        while True:
            reaped, _ = os.waitpid(-1, os.WNOHANG)
            if reaped == 0:
                for child in children():
                    os.kill(child, signal.SIGKILL)
                os.waitpid(-1, 0)


def start(argv: list[str], env: Mapping[str, str], output: str | None, given: Mapping[int, bytes] | None = None) -> int:
    """Start a command in a session of its own in the workspace; it appends to `output`, or to our own output. What is
    `given` it reads, by descriptor."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        # Python ignores it, and ignoring is inherited.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for descriptor, content in (given or {}).items():
            os.dup2(_filled(content), descriptor)
        if output is not None:
            log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
        os.chdir(WORKSPACE)
        os.execvpe(argv[0], argv, env)
    except OSError as exc:
        os.write(2, f"gpuplan: {argv[0]}: {exc.strerror}\n".encode())
    finally:
        os._exit(127)


def _filled(content: bytes) -> int:
    """A descriptor to read that from."""
    from tempfile import TemporaryFile

    with TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        return os.dup(file.fileno())


def end_group(leader: int, signum: signal.Signals) -> None:
    """Signal the group of a child we have not reaped. It may not have made its group yet."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(leader, signum)
        os.killpg(leader, signum)


def listen(*signals: signal.Signals) -> int:
    """From now on these signals arrive as bytes that can be read from the returned descriptor."""
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    for signum in signals:
        signal.signal(signum, lambda *_: None)
    return readable


class Keeper:
    """One node while it runs."""

    def __init__(self) -> None:
        self.pid = 0
        self.goal = "run"
        self.phase = ""
        self.over = False
        self.streak = self.restarts = 0
        self.exit: int | None = None
        self.read_node()

    def read_node(self) -> None:
        with open(NODE, encoding="utf-8") as file:
            self.node = json.load(file)

    def run(self, announce: Callable[[], None]) -> None:
        events = listen(signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGCHLD, signal.SIGALRM)
        self.begin()
        announce()
        while not self.over:
            match os.read(events, 1)[0]:
                case signal.SIGTERM:
                    self.wind_down("stop")
                case signal.SIGUSR1:
                    self.wind_down("remove")
                case signal.SIGHUP:
                    self.wind_down("reload")
                case signal.SIGCHLD:
                    self.reap()
                case signal.SIGALRM:
                    self.time_is_up()

    def begin(self) -> None:
        self.read_node()
        self.goal = "run"
        signal.setitimer(signal.ITIMER_REAL, MINUTE, MINUTE)
        command = self.node["command"]
        # Without a command the node is this program: it stays up and needs nothing else.
        if command is not None:
            become_subreaper()
            argv = ["/bin/sh", "-c", command] if isinstance(command, str) else command
            self.pid = start(argv, self.node["env"], LOG)
        self.tell("running")

    def wind_down(self, goal: str) -> None:
        if GOALS.index(goal) <= GOALS.index(self.goal):
            return
        self.goal = goal
        self.tell("restarting" if goal == "reload" else "stopping")
        if not self.pid:
            self.settle()
            return
        end_group(self.pid, signal.SIGTERM)
        signal.setitimer(signal.ITIMER_REAL, max(self.node["grace_seconds"], 0.001))

    def time_is_up(self) -> None:
        if self.goal != "run":
            if self.pid:
                end_group(self.pid, signal.SIGKILL)
        elif not os.path.exists(NODE):
            # Someone removed the registry by hand: a node nobody can find must not go on.
            self.wind_down("remove")
        elif self.phase == "restarting":
            self.begin()
        else:
            self.streak = 0

    def reap(self) -> None:
        while self.pid:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            if pid == self.pid:
                self.pid, self.exit = 0, os.waitstatus_to_exitcode(status)
                end_descendants()
                self.settle()
                return

    def settle(self) -> None:
        """Nothing runs now: do what comes next."""
        match self.goal:
            case "reload":
                self.begin()
            case "stop":
                self.finish("stopped")
            case "remove":
                self.finish("stopped")
                self.remove()
            case _:
                # As it is written now: `restart` changes without a restart.
                self.read_node()
                if self.node["restart"] == "always" or (self.node["restart"] == "on-failure" and self.exit):
                    self.restarts += 1
                    signal.setitimer(signal.ITIMER_REAL, min(0.5 * 2**self.streak, LONGEST_BACKOFF_SECONDS))
                    self.streak += 1
                    self.tell("restarting")
                else:
                    self.finish("ended")

    def finish(self, phase: str) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.tell(phase)
        self.over = True

    def remove(self) -> None:
        """Nobody has to live for it but us: whoever asked may be dead."""
        with contextlib.suppress(OSError):
            remove_tree(WORKSPACE)
        with contextlib.suppress(OSError):
            nodes, name = os.path.split(os.getcwd())
            gone = os.path.join(os.path.dirname(nodes), SCRATCH, f"{name}.{os.getpid()}")
            os.rename(os.path.join(nodes, name), gone)
            remove_tree(gone)
        # The node is gone for everyone: so must we be, without the milliseconds Python takes to tidy up.
        os._exit(0)

    def tell(self, phase: str) -> None:
        self.phase = phase
        me = os.getpid()
        status = {
            "phase": phase,
            "generation": self.node["generation"],
            "keeper": {"pid": me, "born": born(me)},
            "command": {"pid": self.pid, "born": born(self.pid)} if self.pid else None,
            "exit": self.exit,
            "restarts": self.restarts,
        }
        with contextlib.suppress(FileNotFoundError):
            with open(f"{STATUS}.new", "w", encoding="utf-8") as file:
                json.dump(status, file)
            os.replace(f"{STATUS}.new", STATUS)


def keep() -> int:
    """Keep the node of the working directory; returns once it is up, or because someone else holds it."""
    try:
        lock = os.open(LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, FileNotFoundError):
        return 0
    up, told = os.pipe()
    if os.fork():
        os.close(told)
        # Ends when the keeper has spoken, or has died.
        os.read(up, 1)
        return 0
    os.close(up)
    os.setsid()
    Keeper().run(lambda: os.close(told))
    return 0


def once() -> int:
    """Run the command that standard input names; kill it with all it started when standard input ends."""
    import base64
    import select

    request = json.loads(sys.stdin.buffer.readline())
    events = listen(signal.SIGCHLD)
    become_subreaper()
    given = {3: request["command"].encode()}
    if request["stdin"]:
        given[0] = base64.b64decode(request["stdin"])
    command = start(["/bin/sh", "-c", UNSEEN], request["env"], None, given)
    while True:
        ready, _, _ = select.select([events, 0], [], [])
        pid, status = os.waitpid(command, os.WNOHANG)
        if pid or 0 in ready:
            end_descendants()
            # As a shell tells it: 128 and the signal's number.
            code = os.waitstatus_to_exitcode(status) if pid else -signal.SIGKILL
            return code if code >= 0 else 128 - code
        os.read(events, 1)


if __name__ == "__main__":
    sys.exit(keep() if sys.argv[1] == "keep" else once())
