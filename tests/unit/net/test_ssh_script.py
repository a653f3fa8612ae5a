import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from gpuplan.net.ssh_script import CUT_OFF, NO_WORKSPACE, Script, fed, leashed

SHELLS = [shell for shell in ("sh", "bash", "dash", "zsh", "fish", "busybox") if shutil.which(shell)]
"""What a node's user may have as a login shell, as far as this machine has it."""


def begun(script: Script, shell: str = "sh") -> subprocess.Popen[bytes]:
    """Start it as sshd does: by the login shell, in a session of its own."""
    words = [shell, "sh", "-c"] if shell == "busybox" else [shell, "-c"]
    return subprocess.Popen(
        [*words, script.words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def ended(script: Script, *, shell: str = "sh", more: bytes = b"") -> tuple[int, str]:
    """The status, and what was printed."""
    running = begun(script, shell)
    assert running.stdin is not None and running.stdout is not None
    running.stdin.write(script.text + more)
    running.stdin.flush()
    if more:
        running.stdin.close()
    with running:
        printed = running.stdout.read().decode()
        return running.wait(), printed


@pytest.mark.parametrize("shell", SHELLS)
def test_a_command_runs_in_its_workspace_with_its_environment(shell: str, tmp_path: Path) -> None:
    place = str(tmp_path / "it's a workspace")
    script = leashed(
        'pwd; echo "$GPUPLAN_WORKSPACE"; echo "$A"; exit 7', env={"A": "it's\n $HOME `x`"}, workspace=place
    )

    assert (7, f"{place}\n{place}\nit's\n $HOME `x`\n") == ended(script, shell=shell)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_command_can_be_fed_with_anything(shell: str, tmp_path: Path) -> None:
    content = bytes(range(256)) * 1000

    status, printed = ended(fed("wc -c", env={}, workspace=str(tmp_path)), shell=shell, more=content)

    assert (0, 256_000) == (status, int(printed))


def test_a_command_without_input_reads_nothing(tmp_path: Path) -> None:
    assert (0, "0\n") == ended(leashed("wc -c", env={}, workspace=str(tmp_path)))


def test_neither_the_command_nor_its_environment_is_among_the_arguments(tmp_path: Path) -> None:
    script = leashed("ps -ww -e -o args=; : canary-command", env={"A": "canary-value"}, workspace=str(tmp_path))

    status, printed = ended(script)

    assert 0 == status
    assert "exec 3<&0" in printed
    assert "canary" not in printed + script.words


def test_what_a_command_leaves_running_goes_on(tmp_path: Path) -> None:
    command = "nohup sh -c 'while [ ! -e stop ]; do sleep 0.01; done; echo stopped > stopped' >/dev/null 2>&1 &"

    assert (0, "") == ended(leashed(command, env={}, workspace=str(tmp_path)))

    (tmp_path / "stop").touch()
    while not (tmp_path / "stopped").exists():
        pass


@pytest.mark.parametrize("command", ["sleep 1000", "sleep 1000 & sleep 1001", "trap '' TERM; sleep 1000 & wait"])
def test_a_command_ends_with_its_input(command: str, tmp_path: Path) -> None:
    running = begun(leashed(f"echo begun; {command}", env={}, workspace=str(tmp_path)))
    assert running.stdin is not None and running.stdout is not None
    running.stdin.write(leashed(f"echo begun; {command}", env={}, workspace=str(tmp_path)).text)
    running.stdin.flush()
    assert b"begun\n" == running.stdout.readline()

    with running:
        running.stdin.close()
        assert b"" == running.stdout.read()
        assert running.wait() in (-signal.SIGTERM, -signal.SIGKILL)


def test_a_script_that_does_not_arrive_in_full_is_not_run(tmp_path: Path) -> None:
    script = leashed("echo never", env={}, workspace=str(tmp_path))
    running = begun(script)

    printed, _ = running.communicate(script.text[:-1])

    assert (CUT_OFF, b"") == (running.returncode, printed)


def test_without_its_workspace_nothing_is_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    status, printed = ended(leashed("echo never", env={}, workspace=str(tmp_path / "file" / "below")))

    assert NO_WORKSPACE == status
    assert "never" not in printed


def test_a_name_that_no_shell_can_set_is_refused() -> None:
    with pytest.raises(ValueError, match="`A-B` is no name that a shell can set"):
        leashed("true", env={"A-B": "1"}, workspace=".")
