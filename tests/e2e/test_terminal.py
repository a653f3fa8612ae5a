"""The command on a terminal and off it: questions, Ctrl-C once and twice, readers that go away."""

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuplan.net.clock import SystemClock
from gpuplan.testing.local import end_all_in, no_process_in

SPEC = """\
version: 1
project: terminal
providers: {local: {}}
clusters:
  first:
    provider: local
    command: exec sleep infinity
    env: {GO: "HOME/go"}
    setup: until [ -e "$GO" ]; do sleep 0.05; done
  second: {provider: local, command: exec sleep infinity, depends_on: [clusters.first]}
"""


class Person:
    """Somebody with a project, who starts commands on a terminal of their own and reads what they print."""

    def __init__(self, home: Path) -> None:
        self.home = home
        (home / "gpuplan.yaml").write_text(SPEC.replace("HOME", str(home)))
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "state-home"),
            "TERM": "xterm",
            "COLUMNS": "100",
        }

    def starts(self, *arguments: str) -> "Command":
        return Command(self, arguments)

    def gpuplan(self, *arguments: str, status: int = 0) -> str:
        command = [sys.executable, "-m", "gpuplan", *arguments]
        done = subprocess.run(command, cwd=self.home, env=self.environ, capture_output=True, text=True, timeout=60)
        assert status == done.returncode, done.stdout + done.stderr
        return done.stdout

    def lets_setup_go_on(self) -> None:
        (self.home / "go").touch()

    @property
    def instances(self) -> list[str]:
        return [item["address"] for item in json.loads(self.gpuplan("state", "list", "--json"))]


class Command:
    """A running command whose three streams are one terminal."""

    def __init__(self, person: Person, arguments: tuple[str, ...]) -> None:
        self.screen, terminal = pty.openpty()
        self.printed = ""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gpuplan", *arguments],
            cwd=person.home,
            env=person.environ,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        )
        os.close(terminal)

    def until(self, text: str) -> None:
        while text not in self.printed:
            assert self._reads(), f"it ended without `{text}`:\n{self.printed}"

    def types(self, text: str) -> None:
        os.write(self.screen, text.encode())

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> None:
        self._process.send_signal(number)

    def ends(self) -> int:
        while self._reads():
            pass
        os.close(self.screen)
        return self._process.wait(timeout=30)

    def _reads(self) -> bool:
        try:
            piece = os.read(self.screen, 65536)
        except OSError:
            # How Linux says that nobody holds the other end any more.
            return False
        self.printed += re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", piece.decode(errors="replace"))
        return bool(piece)


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    person = Person(tmp_path)
    try:
        yield person
        person.gpuplan("destroy", "--auto-approve")
        asyncio.run(no_process_in(tmp_path, SystemClock()))
    finally:
        end_all_in(tmp_path)


def test_only_yes_is_a_yes(person: Person) -> None:
    person.lets_setup_go_on()
    declined = person.starts("apply")
    declined.until("Enter a value:")
    declined.types("y\n")
    assert 1 == declined.ends()
    assert [] == person.instances

    approved = person.starts("apply")
    approved.until("Enter a value:")
    approved.types("yes\n")

    assert 0 == approved.ends()
    assert "Apply complete! Resources: 2 added, 0 changed, 0 destroyed." in approved.printed


def test_ctrl_c_at_the_question_changes_nothing_and_leaves_no_lock(person: Person) -> None:
    asked = person.starts("apply")
    asked.until("Enter a value:")
    asked.interrupt()

    assert 130 == asked.ends()
    assert [] == person.instances
    assert not (person.home / "state" / "default.lock").exists()


def test_first_ctrl_c_waits_for_what_is_in_flight_and_starts_nothing_new(person: Person) -> None:
    command = person.starts("apply", "--auto-approve")
    command.until("runs its setup")
    command.interrupt()
    command.until("nothing new starts, waiting for 1 in flight")
    person.lets_setup_go_on()

    assert 130 == command.ends()
    assert "Interrupted. Resources: 1 added, 0 changed, 0 destroyed; 1 not started." in command.printed
    assert ["clusters.first.nodes[0]"] == person.instances
    assert "1 to add, 0 to change, 0 to destroy." in person.gpuplan("plan")


def test_second_ctrl_c_leaves_at_once_and_the_next_run_settles_the_rest(person: Person) -> None:
    command = person.starts("apply", "--auto-approve")
    command.until("runs its setup")
    command.interrupt()
    command.until("nothing new starts")
    command.interrupt()

    assert 130 == command.ends()
    person.lets_setup_go_on()
    person.gpuplan("apply", "--auto-approve")
    assert ["clusters.first.nodes[0]", "clusters.second.nodes[0]"] == person.instances
    nodes = person.home / "state-home" / "gpuplan" / "local" / "nodes"
    assert 2 == len(list(nodes.iterdir()))


def test_terminate_counts_as_the_first_ctrl_c(person: Person) -> None:
    command = person.starts("apply", "--auto-approve")
    command.until("runs its setup")
    command.interrupt(signal.SIGTERM)
    command.until("nothing new starts")
    person.lets_setup_go_on()

    assert 130 == command.ends()
    assert ["clusters.first.nodes[0]"] == person.instances


def test_a_reader_that_goes_away_does_not_end_an_apply(person: Person) -> None:
    person.lets_setup_go_on()
    command = [sys.executable, "-m", "gpuplan", "apply", "--auto-approve"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        command, cwd=person.home, env=person.environ, stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)

    assert (0, "") == (done.returncode, done.stderr)
    assert 2 == len(person.instances)
