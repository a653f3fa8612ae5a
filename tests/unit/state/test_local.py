import asyncio
import os
import stat
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pytest

from gpuplan.core.errors import StateCorrupt, StateError, StateStale
from gpuplan.core.state import LockInfo, State
from gpuplan.net.clock import SystemClock
from gpuplan.state.backends.disk import OsDisk
from gpuplan.state.backends.local import LocalBackend, workspaces
from gpuplan.state.lock import LEASE, lock_request
from gpuplan.state.session import Session, read_state
from gpuplan.testing.clock import FakeClock
from gpuplan.testing.disks import TrippedDisk
from gpuplan.testing.state_samples import begun, fresh, node, noted


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "project" / "state"


async def open_session(folder: Path, clock: FakeClock) -> Session:
    backend = LocalBackend(folder, "default", clock)
    return await Session.open(backend, clock, request=lock_request(clock, "apply"), create_project="llama")


async def one_run(folder: Path, clock: FakeClock) -> State:
    session = await open_session(folder, clock)
    await session.write(noted(1))
    await session.commit()
    await session.close()
    return session.state


async def crashed_run(folder: Path, clock: FakeClock) -> None:
    session = await open_session(folder, clock)
    await session.write(begun(1))
    await session.write(begun(2))
    await session.close()


def test_finished_run_leaves_its_snapshots_and_nothing_else(folder: Path, clock: FakeClock) -> None:
    clock.run(one_run(folder, clock))

    assert [
        ".backup/default.0.json",
        ".work/default.fence",
        ".work/default.guard",
        "default.json",
    ] == sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_files_and_folders_are_private(folder: Path, clock: FakeClock) -> None:
    before = os.umask(0)
    try:
        clock.run(one_run(folder, clock))
        clock.run(crashed_run(folder, clock))
    finally:
        os.umask(before)

    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()}
    folders = {stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*")) if path.is_dir()}
    assert ({0o600}, {0o700}) == (modes, folders)


def test_looking_creates_nothing(folder: Path, clock: FakeClock) -> None:
    async def scenario() -> None:
        backend = LocalBackend(folder, "default", clock)
        assert await read_state(backend) is None
        assert await backend.holder() is None
        assert [] == list(await backend.history())

    clock.run(scenario())
    assert not folder.parent.exists()


def test_kept_snapshot_is_the_state_as_it_was(folder: Path, clock: FakeClock) -> None:
    clock.run(one_run(folder, clock))
    before = (folder / "default.json").read_bytes()
    clock.run(one_run(folder, clock))

    assert before == (folder / ".backup/default.1.json").read_bytes()


def test_workspaces_keep_apart(folder: Path, clock: FakeClock) -> None:
    async def scenario() -> None:
        for name in ("prod", "prod-eu", "dev"):
            backend = LocalBackend(folder, name, clock)
            held = await backend.lock(lock_request(clock, "apply"))
            await backend.commit(fresh(lineage=name), held=held)
            await backend.commit(fresh(1, lineage=name), held=held)
            assert [0] == list(await backend.history())

    clock.run(scenario())
    assert ("dev", "prod", "prod-eu") == workspaces(folder)


@pytest.mark.parametrize("name", ["", "..", "../up", "a/b", ".hidden", "a.b", "-f", "x" * 64, "a\n", "ü"])
def test_name_that_could_leave_the_folder_is_refused(folder: Path, clock: FakeClock, name: str) -> None:
    with pytest.raises(StateError, match="cannot be the name of a workspace"):
        LocalBackend(folder, name, clock)


def test_torn_record_is_dropped_and_written_over(folder: Path, clock: FakeClock) -> None:
    clock.run(crashed_run(folder, clock))
    journal = folder / "default.journal"
    journal.write_bytes(journal.read_bytes()[:-7])

    async def scenario() -> None:
        backend = LocalBackend(folder, "default", clock)
        held = await backend.lock(lock_request(clock, "apply"))
        base = (await backend.load()).snapshot
        assert base is not None
        await backend.append([begun(7)], base=base, held=held)
        assert [begun(1), begun(7)] == list((await backend.load()).journal)

    clock.run(scenario())


def test_damaged_journal_names_its_line_and_is_left_alone(folder: Path, clock: FakeClock) -> None:
    clock.run(crashed_run(folder, clock))
    journal = folder / "default.journal"
    damaged = journal.read_bytes().replace(b"token1", b"t0ken1", 1)
    journal.write_bytes(damaged)

    with pytest.raises(StateCorrupt) as caught:
        clock.run(open_session(folder, clock))

    assert f"`{journal}:2` does not verify" == str(caught.value)
    assert damaged == journal.read_bytes()
    assert not (folder / "default.lock").exists()


def test_damaged_snapshot_is_named_and_left_alone(folder: Path, clock: FakeClock) -> None:
    clock.run(one_run(folder, clock))
    snapshot = folder / "default.json"
    damaged = snapshot.read_bytes().replace(b"n-1", b"n-2")
    snapshot.write_bytes(damaged)

    with pytest.raises(StateCorrupt) as caught:
        clock.run(one_run(folder, clock))

    assert f"`{snapshot}` does not verify" == str(caught.value)
    assert damaged == snapshot.read_bytes()


def test_journal_without_its_snapshot_is_corrupt(folder: Path, clock: FakeClock) -> None:
    clock.run(crashed_run(folder, clock))
    (folder / "default.json").unlink()

    with pytest.raises(StateCorrupt, match=r"default\.journal"):
        clock.run(read_state(LocalBackend(folder, "default", clock)))


def test_journal_that_a_crash_left_beside_its_own_commit_is_ignored(folder: Path, clock: FakeClock) -> None:
    clock.run(crashed_run(folder, clock))
    journal = (folder / "default.journal").read_bytes()
    after = clock.run(one_run(folder, clock))
    (folder / "default.journal").write_bytes(journal)
    (folder / "default.json").write_bytes((folder / ".backup/default.1.json").read_bytes())

    state = clock.run(read_state(LocalBackend(folder, "default", clock)))

    assert state is not None
    assert 1 == state.serial
    assert after.intents == state.intents


def test_damaged_lock_says_which_file_and_what_to_do(folder: Path, clock: FakeClock) -> None:
    clock.run(one_run(folder, clock))
    (folder / "default.lock").write_text("?")

    with pytest.raises(StateCorrupt) as caught:
        clock.run(one_run(folder, clock))

    assert "remove this file if no gpuplan runs on this state" in caught.value.diagnostics[0].facts


def test_damaged_fence_says_which_file(folder: Path, clock: FakeClock) -> None:
    clock.run(one_run(folder, clock))
    (folder / ".work/default.fence").write_text("x")

    with pytest.raises(StateCorrupt, match=r"default\.fence"):
        clock.run(one_run(folder, clock))


def test_folder_that_is_a_file_is_told_in_words(folder: Path, clock: FakeClock) -> None:
    folder.parent.mkdir()
    folder.write_text("")

    with pytest.raises(StateError) as caught:
        clock.run(one_run(folder, clock))

    (finding,) = caught.value.diagnostics
    assert "state-unwritable" == finding.id
    assert f"`{folder}/default.json` cannot be written" == finding.summary


def test_snapshot_that_cannot_be_read_is_told_in_words(folder: Path, clock: FakeClock) -> None:
    (folder / "default.json").mkdir(parents=True)

    with pytest.raises(StateError) as caught:
        clock.run(read_state(LocalBackend(folder, "default", clock)))

    (finding,) = caught.value.diagnostics
    assert "state-unreadable" == finding.id
    assert f"the system says: Is a directory ({folder}/default.json)" == finding.facts[0]


def test_process_that_is_stopped_inside_a_write_is_waited_for_and_then_named(folder: Path, clock: FakeClock) -> None:
    async def scenario() -> None:
        await (await open_session(folder, clock)).close()
        with OsDisk().exclusive(folder / ".work/default.guard") as inside:
            assert inside
            with pytest.raises(StateError, match="in the middle of a write"):
                await open_session(folder, clock)
        await (await open_session(folder, clock)).close()

    clock.run(scenario())
    assert 10 == pytest.approx(clock.monotonic())


def test_what_a_crash_left_half_written_is_removed_by_the_next_run(folder: Path, clock: FakeClock) -> None:
    clock.run(one_run(folder, clock))
    (folder / ".work/default.7.json").write_text("{")
    (folder / ".work/default.7.journal").write_text("")
    (folder / ".work/other.7.json").write_text("{")
    clock.run(one_run(folder, clock))

    assert ["default.fence", "default.guard", "other.7.json"] == sorted(
        path.name for path in (folder / ".work").iterdir()
    )


def test_append_after_a_failed_one_begins_a_sound_file(folder: Path, clock: FakeClock) -> None:
    async def scenario() -> None:
        def fail(call: str) -> None:
            if call == "sync" and failing:
                raise OSError(28, "No space left on device")

        failing = False
        backend = LocalBackend(folder, "default", clock, disk=TrippedDisk(fail, at=1))
        held = await backend.lock(lock_request(clock, "apply"))
        await backend.commit(fresh(), held=held)
        await backend.append([noted(1)], base=fresh(), held=held)
        failing = True
        with pytest.raises(StateError, match="cannot be written"):
            await backend.append([noted(2)], base=fresh(), held=held)
        failing = False
        await backend.append([noted(3)], base=fresh(), held=held)
        journal = (await backend.load()).journal

        assert [noted(1), noted(3)] == [entry for entry in journal if entry != noted(2)]

    clock.run(scenario())


def test_file_system_without_links_gets_copies(tmp_path: Path) -> None:
    class NoLinks(type(tmp_path)):  # type: ignore[misc]  # the concrete class of paths is chosen at run time
        def hardlink_to(self, target: object) -> None:
            raise PermissionError(1, "Operation not permitted")

    (tmp_path / "a").write_text("content")
    OsDisk().link(tmp_path / "a", NoLinks(tmp_path / "b"))

    assert "content" == (tmp_path / "b").read_text()
    assert 0o600 == stat.S_IMODE((tmp_path / "b").stat().st_mode)


def test_link_to_a_file_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        OsDisk().link(tmp_path / "a", tmp_path / "b")


def test_run_whose_state_was_removed_appends_nothing(folder: Path, clock: FakeClock) -> None:
    async def scenario() -> None:
        session = await open_session(folder, clock)
        (folder / "default.json").unlink()
        with pytest.raises(StateStale) as caught:
            await session.write(noted(1))
        assert "the state is gone" == caught.value.diagnostics[0].facts[0]
        await session.close()

    clock.run(scenario())


class AheadClock(SystemClock):
    """Of a machine on which every lease given now has run out."""

    def now(self) -> datetime:
        return super().now() + 2 * LEASE


def test_append_that_was_acknowledged_is_seen_by_whoever_takes_the_lock_over(folder: Path) -> None:
    async def append_until_refused(old: LocalBackend, held: LockInfo) -> int:
        count = 0
        with suppress(StateStale):
            while True:
                await old.append([noted(count)], base=fresh(), held=held)
                count += 1
        return count

    async def take_over() -> State:
        clock = AheadClock()
        request = lock_request(clock, "apply")
        session = await Session.open(
            LocalBackend(folder, "default", clock), clock, request=request, create_project="llama"
        )
        await session.close()
        return session.state

    async def scenario() -> None:
        clock = SystemClock()
        old = LocalBackend(folder, "default", clock)
        held = await old.lock(lock_request(clock, "apply"))
        await old.commit(fresh(), held=held)
        acknowledged, state = await asyncio.gather(append_until_refused(old, held), take_over())

        assert set(state.instances) >= {node(number).address for number in range(acknowledged)}

    asyncio.run(scenario())
