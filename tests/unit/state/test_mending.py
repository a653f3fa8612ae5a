"""Damaged states: what `verify` finds, and what `recover` makes of it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from gpuplan.core.address import Address
from gpuplan.core.errors import StateCorrupt, StateError
from gpuplan.core.state import State
from gpuplan.state.backends.local import LocalBackend
from gpuplan.state.backends.objects import ObjectBackend
from gpuplan.state.codec import encode_state
from gpuplan.state.encryption_keys import COMMAND, Keyring
from gpuplan.state.mending import Inspection, inspect
from gpuplan.state.raw import RawState
from gpuplan.state.session import Session, read_state
from gpuplan.testing.clock import FakeClock
from gpuplan.testing.disks import PowerLoss, VolatileDisk
from gpuplan.testing.state_samples import PROJECT, asks, begun, fresh, node, noted
from gpuplan.workflow.ledger import open_state
from gpuplan.workflow.mending import inspect_state, recover_state, rekey_state
from gpuplan.workflow.project import Project
from tests.unit.state.memory_objects import Bucket, MemoryObjects

KEY = f"printf {'k' * 43}="
FOLDER = Path("state")
KEYS = [{}, {COMMAND: KEY}]


class Bench:
    """A project with runs that ended well, and then one that did not."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.clock = FakeClock()
        self.project = Project(folder, environ={"PATH": "/usr/bin:/bin", **environ})
        self.folder = folder / "state"
        self.snapshot = self.folder / "default.json"
        self.journal = self.folder / "default.journal"

    def apply(self, *numbers: int, commit: bool = True) -> None:
        async def scenario() -> None:
            backend = open_state(self.project, self.clock)
            session = await Session.open(backend, self.clock, request=asks(self.clock), create_project=PROJECT)
            for number in numbers:
                await session.write(noted(number))
            if commit:
                await session.commit()
            await session.close()
            await backend.close()

        self.clock.run(scenario())

    def read(self) -> State:
        state = self.clock.run(read_state(open_state(self.project, self.clock)))
        assert state is not None
        return state

    def inspect(self) -> Inspection:
        return self.clock.run(inspect_state(self.project, self.clock))[0]

    def recover(self) -> State:
        return self.clock.run(recover_state(self.project, self.clock, self.inspect()))


@pytest.fixture(params=KEYS, ids=["plain", "encrypted"])
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Bench:
    bench = Bench(tmp_path, request.param)
    for number in (1, 2, 3):
        bench.apply(number)
    return bench


def flip(path: Path, where: Callable[[bytes], int]) -> None:
    content = bytearray(path.read_bytes())
    content[where(content)] ^= 0x04
    path.write_bytes(content)


def nodes(*numbers: int) -> set[Address]:
    return {node(number).address for number in numbers}


def test_sound_state_has_no_damage_and_nothing_to_mend(bench: Bench) -> None:
    found = bench.inspect()

    assert not found.is_damaged
    assert found.mended is None


def test_left_over_journal_is_no_damage(bench: Bench) -> None:
    bench.apply(4, commit=False)

    assert not bench.inspect().is_damaged
    assert bench.inspect().mended is None


def test_torn_tail_is_named_and_the_next_command_drops_it(bench: Bench) -> None:
    bench.apply(4, 5, commit=False)
    bench.journal.write_bytes(bench.journal.read_bytes()[:-9])

    found = bench.inspect()
    assert not found.is_damaged
    assert any("default.json:3" in each.where and "never acknowledged" in each.what for each in found.findings)
    assert nodes(1, 2, 3, 4) == bench.read().instances.keys()


def test_damaged_snapshot_is_replaced_by_the_newest_kept_one_with_the_journal_added(bench: Bench) -> None:
    bench.apply(4, commit=False)
    flip(bench.snapshot, lambda content: len(content) // 2)
    with pytest.raises(StateCorrupt):
        bench.read()

    recovered = bench.recover()
    assert nodes(1, 2, 4) == bench.read().instances.keys()
    assert recovered.serial > 4
    assert not bench.inspect().is_damaged


def test_missing_snapshot_is_replaced_by_the_newest_kept_one(bench: Bench) -> None:
    bench.apply(4, commit=False)
    bench.snapshot.unlink()
    bench.recover()

    assert nodes(1, 2, 4) == bench.read().instances.keys()


def test_damaged_kept_snapshot_is_passed_over(bench: Bench) -> None:
    flip(bench.snapshot, lambda content: len(content) // 2)
    flip(bench.folder / ".backup" / "default.2.json", lambda content: len(content) // 2)
    bench.recover()

    assert nodes(1) == bench.read().instances.keys()


def test_journal_is_cut_at_its_damaged_line_and_what_is_lost_is_listed(bench: Bench) -> None:
    bench.apply(4, 5, 6, commit=False)
    lines = bench.journal.read_bytes().split(b"\n")
    flip(bench.journal, lambda content: len(lines[0]) + 1 + len(lines[1]) + 1 + len(lines[2]) // 2)
    with pytest.raises(StateCorrupt):
        bench.read()

    found = bench.inspect()
    assert found.mended is not None
    assert ("line 3: cannot be read", "line 4: `clusters.train.nodes[6]` is n-6 at cloud, ready") == found.mended.lost
    bench.recover()
    assert nodes(1, 2, 3, 4) == bench.read().instances.keys()


def test_journal_without_a_readable_first_line_is_left_away(bench: Bench) -> None:
    bench.apply(4, commit=False)
    flip(bench.journal, lambda content: 20)
    found = bench.inspect()
    assert found.mended is not None and ("everything in the journal",) == found.mended.lost
    bench.recover()

    assert nodes(1, 2, 3) == bench.read().instances.keys()


def test_journal_of_another_snapshot_is_left_away(bench: Bench) -> None:
    bench.apply(4, commit=False)
    left = bench.journal.read_bytes()
    bench.apply(5)
    bench.apply(6)
    bench.journal.write_bytes(left)
    with pytest.raises(StateCorrupt):
        bench.read()
    bench.recover()

    assert nodes(1, 2, 3, 4, 5, 6) == bench.read().instances.keys()


def test_what_was_replaced_stays_beside_the_earlier_snapshots(bench: Bench) -> None:
    bench.apply(4, commit=False)
    flip(bench.snapshot, lambda content: len(content) // 2)
    damaged = bench.snapshot.read_bytes(), bench.journal.read_bytes()
    bench.recover()
    kept = sorted((bench.folder / ".backup").glob("*.damaged-*"), key=lambda path: path.suffixes)

    assert set(damaged) == {path.read_bytes() for path in kept}


def test_nothing_is_mended_when_nothing_verifies(bench: Bench) -> None:
    for path in (bench.snapshot, *(bench.folder / ".backup").iterdir()):
        flip(path, lambda content: len(content) // 2)
    found = bench.inspect()

    assert found.is_damaged and found.mended is None
    with pytest.raises(StateError):
        bench.recover()


def test_state_that_changed_since_it_was_shown_is_not_touched(bench: Bench) -> None:
    flip(bench.snapshot, lambda content: len(content) // 2)
    shown = bench.inspect()
    flip(bench.folder / ".backup" / "default.2.json", lambda content: len(content) // 2)
    before = bench.snapshot.read_bytes()
    with pytest.raises(StateError):
        bench.clock.run(recover_state(bench.project, bench.clock, shown))

    assert before == bench.snapshot.read_bytes()


def test_state_in_objects_is_mended_the_same_way() -> None:
    bucket, clock = Bucket(), FakeClock()

    async def scenario() -> None:
        for number in (1, 2, 3):
            backend = ObjectBackend(MemoryObjects(bucket, clock), clock)
            session = await Session.open(backend, clock, request=asks(clock), create_project=PROJECT)
            await session.write(noted(number))
            if number < 3:
                await session.commit()
            await session.close()
        backend = ObjectBackend(MemoryObjects(bucket, clock), clock)
        name = next(each for each in bucket.contents if each.startswith("snapshots/2."))
        bucket.contents[name] = bucket.contents[name].replace(b"n-1", b"n-7")
        with pytest.raises(StateCorrupt):
            await read_state(backend)
        held = await backend.lock(asks(clock))
        mended = inspect(await backend.raw(), Keyring(), "here").mended
        assert mended is not None
        await backend.put_back(mended.state, held=held)
        await backend.unlock(held)

        state = await read_state(backend)
        assert state is not None and nodes(1, 3) == state.instances.keys()

    clock.run(scenario())


def test_rekey_writes_the_same_state_under_the_present_key(bench: Bench) -> None:
    before = bench.read()
    bench.project = replace(bench.project, environ={"PATH": "/usr/bin:/bin", COMMAND: KEY})
    bench.clock.run(rekey_state(bench.project, bench.clock))

    assert replace(before, serial=before.serial + 1) == bench.read()
    assert b"clusters.train" not in bench.snapshot.read_bytes()


def test_one_object_under_two_addresses_is_damage_and_a_lost_reference_a_note() -> None:
    twin = replace(node(2), remote_id=node(1).remote_id)
    state = replace(fresh(), instances={node(1).address: node(1), node(2).address: twin})
    found = inspect(RawState(encode_state(state), None), Keyring(), "here")

    assert ["`clusters.train.nodes[1]` and `clusters.train.nodes[2]` are both n-1"] == [
        each.what for each in found.findings if each.is_damage
    ]
    assert any("volumes.data" in each.what for each in found.findings if not each.is_damage)


def test_open_intent_is_a_note() -> None:
    state = replace(fresh(), intents={1: begun(1).intent}, next_seq=2)
    found = inspect(RawState(encode_state(state), None), Keyring(), "here")

    assert not found.is_damaged
    assert any("intent 1 is open" in each.what for each in found.findings)


def test_power_that_goes_at_any_step_of_a_recovery_takes_nothing_away() -> None:
    intact = nodes(1, 2, 4)
    steps = 0
    while True:
        steps += 1
        before = _mended_on(VolatileDisk(), stop_before=True)
        disk = VolatileDisk(at=before + steps)
        try:
            _mended_on(disk)
        except PowerLoss:
            for seed in range(6):
                survivor = disk.after_power_loss(Random(f"{steps} {seed}").randrange)
                assert intact == _saved_from(survivor).instances.keys(), f"step {steps}, seed {seed}"
        else:
            break

    assert steps > 15


def _mended_on(disk: VolatileDisk, *, stop_before: bool = False) -> int:
    """Three runs, one that crashes, a damaged snapshot, and its recovery; returns how many calls that took."""
    clock = FakeClock()

    async def scenario() -> int:
        for number in (1, 2, 3, 4):
            session = await Session.open(local(disk, clock), clock, request=asks(clock), create_project=PROJECT)
            await session.write(noted(number))
            if number < 4:
                await session.commit()
            await session.close()
        descriptor = disk.create(FOLDER / "default.json")
        disk.write(descriptor, b"{}")
        disk.sync(descriptor)
        # All of this was long ago.
        disk.sync_folder(FOLDER / ".backup")
        disk.sync_folder(FOLDER)
        if stop_before:
            return disk.calls
        backend = local(disk, clock)
        held = await backend.lock(asks(clock))
        mended = inspect(await backend.raw(), Keyring(), "here").mended
        assert mended is not None
        await backend.put_back(mended.state, held=held)
        return disk.calls

    return clock.run(scenario())


def _saved_from(disk: VolatileDisk) -> State:
    """What the next command has: the state as it is, or what can be made of it."""
    clock = FakeClock()

    async def scenario() -> State:
        backend = local(disk, clock)
        mended = inspect(await backend.raw(), Keyring(), "here").mended
        state = mended.state if mended is not None else await read_state(backend)
        assert state is not None
        return state

    return clock.run(scenario())


def local(disk: VolatileDisk, clock: FakeClock) -> LocalBackend:
    return LocalBackend(FOLDER, "default", clock, disk=disk)
