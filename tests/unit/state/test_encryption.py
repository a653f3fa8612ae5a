"""Encrypted states: what a backend gets to hold, which key reads what, and what is noticed."""

import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from gpuplan.core.errors import StateCorrupt, StateEncrypted, StateError
from gpuplan.core.state import Encrypted, Ended, Outcome
from gpuplan.state.backends.local import LocalBackend
from gpuplan.state.backends.memory import MemoryBackend, MemoryStore
from gpuplan.state.backends.objects import ObjectBackend
from gpuplan.state.codec import encode_entry, encode_state
from gpuplan.state.encryption import EncryptedBackend
from gpuplan.state.encryption_keys import COMMAND, OLD_COMMAND, OLD_PASSPHRASE, PASSPHRASE, Keyring, keys_of
from gpuplan.state.json_schema import state_schema
from gpuplan.state.session import Session, push_state, read_state
from gpuplan.testing.backend_conformance import BackendConformance
from gpuplan.testing.backend_place import Place
from gpuplan.testing.clock import FakeClock
from gpuplan.testing.state_samples import PROJECT, asks, begun, fresh, node, noted
from tests.unit.state.memory_objects import Bucket, MemoryObjects

T = TypeVar("T")
KEY = f"printf {'k' * 43}="
OTHER = f"printf {'o' * 43}="
CANARY = "canary-1f0c"


def keyring(**environ: str) -> Keyring:
    return keys_of({"PATH": "/usr/bin:/bin", **environ}, Path("/"))


def encrypted(store: MemoryStore, clock: FakeClock, **environ: str) -> EncryptedBackend:
    return EncryptedBackend(MemoryBackend(clock, store), keyring(**environ))


def run(scenario: Callable[[FakeClock], Awaitable[T]]) -> T:
    clock = FakeClock()

    async def main() -> T:
        return await scenario(clock)

    return clock.run(main())


async def applied(backend: EncryptedBackend, clock: FakeClock, *numbers: int, commit: bool = True) -> None:
    """A run that records these nodes; without `commit` it leaves its journal behind, as a crash does."""
    session = await Session.open(backend, clock, request=asks(clock), create_project=PROJECT)
    for number in numbers:
        recorded = replace(node(number), facts={"note": CANARY})
        await session.write(begun(session.next_seq()), replace(noted(number), recorded=recorded))
    if commit:
        await session.commit()
    await session.close()


class TestOverMemory(BackendConformance):
    @contextmanager
    def open_place(self, folder: Path) -> Iterator[Place]:
        store, keys = MemoryStore(), keyring(**{COMMAND: KEY})
        yield lambda clock: EncryptedBackend(MemoryBackend(clock, store), keys)


class TestOverFiles(BackendConformance):
    @contextmanager
    def open_place(self, folder: Path) -> Iterator[Place]:
        keys = keyring(**{COMMAND: KEY})
        yield lambda clock: EncryptedBackend(LocalBackend(folder / "state", "default", clock), keys)


class TestOverObjects(BackendConformance):
    @contextmanager
    def open_place(self, folder: Path) -> Iterator[Place]:
        bucket, keys = Bucket(), keyring(**{COMMAND: KEY})
        yield lambda clock: EncryptedBackend(ObjectBackend(MemoryObjects(bucket, clock), clock), keys)


class TestWithoutKey(BackendConformance):
    """The layer lets everything through that is not encrypted."""

    @contextmanager
    def open_place(self, folder: Path) -> Iterator[Place]:
        store = MemoryStore()
        yield lambda clock: EncryptedBackend(MemoryBackend(clock, store), Keyring())


def test_nothing_recorded_is_readable_in_snapshot_journal_or_kept_snapshots() -> None:
    async def scenario(clock: FakeClock) -> MemoryStore:
        store = MemoryStore()
        await applied(encrypted(store, clock, **{COMMAND: KEY}), clock, 1)
        await applied(encrypted(store, clock, **{COMMAND: KEY}), clock, 2)
        await applied(encrypted(store, clock, **{COMMAND: KEY}), clock, 3, commit=False)
        return store

    store = run(scenario)
    held = [store.snapshot or b"", bytes(store.journal), *store.kept.values()]

    assert len(held) > 3 and all(held)
    for content in held:
        assert CANARY.encode() not in content
        assert b"clusters.train" not in content


def test_snapshot_and_entry_follow_the_published_schema() -> None:
    from jsonschema import Draft202012Validator

    async def scenario(clock: FakeClock) -> MemoryStore:
        store = MemoryStore()
        await applied(encrypted(store, clock, **{COMMAND: KEY}), clock, 1)
        return store

    schema = state_schema()
    Draft202012Validator(schema).validate(json.loads(run(scenario).snapshot or b""))
    entry = Draft202012Validator({**schema, "$ref": "#/$defs/Entry"})
    entry.validate(json.loads(encode_entry(Encrypted("1.ab.cd"))))


def test_plain_state_with_a_plain_journal_is_encrypted_by_the_next_write() -> None:
    async def scenario(clock: FakeClock) -> None:
        store = MemoryStore()
        await applied(encrypted(store, clock), clock, 1)
        await applied(encrypted(store, clock), clock, 2, commit=False)
        assert CANARY.encode() in (store.snapshot or b"")
        await applied(encrypted(store, clock, **{COMMAND: KEY}), clock, 3)

        assert CANARY.encode() not in (store.snapshot or b"")
        state = await read_state(encrypted(store, clock, **{COMMAND: KEY}))
        assert state is not None and {node(n).address for n in (1, 2, 3)} == state.instances.keys()

    run(scenario)


def test_rotation_reads_with_the_old_key_and_writes_with_the_new() -> None:
    async def scenario(clock: FakeClock) -> None:
        store = MemoryStore()
        await applied(encrypted(store, clock, **{COMMAND: KEY}), clock, 1)
        await applied(encrypted(store, clock, **{COMMAND: KEY}), clock, 2, commit=False)
        rotating = {COMMAND: OTHER, OLD_COMMAND: KEY}
        assert await read_state(encrypted(store, clock, **rotating)) is not None
        await applied(encrypted(store, clock, **rotating), clock, 3)

        state = await read_state(encrypted(store, clock, **{COMMAND: OTHER}))
        assert state is not None and {node(n).address for n in (1, 2, 3)} == state.instances.keys()
        with pytest.raises(StateEncrypted):
            await read_state(encrypted(store, clock, **{COMMAND: KEY}))

    run(scenario)


def test_run_with_a_new_key_crashes_and_its_journal_is_read_beside_the_old_snapshot() -> None:
    async def scenario(clock: FakeClock) -> None:
        store, rotating = MemoryStore(), {COMMAND: OTHER, OLD_COMMAND: KEY}
        await applied(encrypted(store, clock, **{COMMAND: KEY}), clock, 1)
        await applied(encrypted(store, clock, **rotating), clock, 2, commit=False)

        state = await read_state(encrypted(store, clock, **rotating))
        assert state is not None and {node(1).address, node(2).address} == state.instances.keys()

    run(scenario)


def test_with_an_old_key_alone_the_next_write_is_plain() -> None:
    async def scenario(clock: FakeClock) -> None:
        store = MemoryStore()
        await applied(encrypted(store, clock, **{COMMAND: KEY}), clock, 1)
        await applied(encrypted(store, clock, **{OLD_COMMAND: KEY}), clock, 2)

        assert CANARY.encode() in (store.snapshot or b"")

    run(scenario)


@pytest.mark.parametrize("environ", [{}, {COMMAND: OTHER}])
def test_without_the_right_key_nothing_is_read_and_nothing_is_written(environ: dict[str, str]) -> None:
    async def scenario(clock: FakeClock) -> None:
        store = MemoryStore()
        await applied(encrypted(store, clock, **{COMMAND: KEY}), clock, 1)
        before = store.snapshot
        wrong = encrypted(store, clock, **environ)
        with pytest.raises(StateEncrypted):
            await read_state(wrong)
        with pytest.raises(StateEncrypted):
            await applied(wrong, clock, 2)
        with pytest.raises(StateEncrypted):
            await push_state(wrong, clock, request=asks(clock), pushed=fresh())

        assert before == store.snapshot
        assert store.holder is None

    run(scenario)


def test_reader_that_knows_nothing_of_encryption_is_refused() -> None:
    async def scenario(clock: FakeClock) -> None:
        store = MemoryStore()
        await applied(encrypted(store, clock, **{COMMAND: KEY}), clock, 1)
        with pytest.raises(StateEncrypted):
            await read_state(MemoryBackend(clock, store))

    run(scenario)


def test_error_for_a_wrong_key_names_where_it_came_from_and_not_the_key() -> None:
    async def scenario(clock: FakeClock) -> StateEncrypted:
        store = MemoryStore()
        await applied(encrypted(store, clock, **{COMMAND: KEY}), clock, 1)
        with pytest.raises(StateEncrypted) as caught:
            await read_state(encrypted(store, clock, **{COMMAND: OTHER}))
        return caught.value

    (found,) = run(scenario).diagnostics

    assert "`memory` is encrypted under another key" == found.summary
    assert COMMAND in " ".join(found.facts)
    assert "ooo" not in str(found)


def test_state_under_another_serial_or_project_is_damage() -> None:
    async def scenario(clock: FakeClock) -> None:
        store, keys = MemoryStore(), {COMMAND: KEY}
        await applied(encrypted(store, clock, **keys), clock, 1)
        inner = (await MemoryBackend(clock, store).load()).snapshot
        assert inner is not None
        for other in (replace(inner, serial=inner.serial + 5), replace(inner, project="other")):
            store.snapshot = encode_state(other)
            with pytest.raises(StateCorrupt):
                await read_state(encrypted(store, clock, **keys))

    run(scenario)


def test_appends_that_changed_places_or_were_left_out_are_damage() -> None:
    async def scenario(clock: FakeClock) -> None:
        store, keys = MemoryStore(), {COMMAND: KEY}
        backend = encrypted(store, clock, **keys)
        held = await backend.lock(asks(clock))
        await backend.commit(fresh(), held=held)
        for entry in (begun(1), Ended(1, Outcome.DONE)):
            await backend.append([entry], base=fresh(), held=held)
        first, second = (await MemoryBackend(clock, store).load()).journal
        for journal in ([second, first], [second]):
            store.journal, store.framing = bytearray(), None
            await MemoryBackend(clock, store).append(journal, base=fresh(), held=held)
            with pytest.raises(StateCorrupt):
                await encrypted(store, clock, **keys).load()

    run(scenario)


def test_passphrase_opens_what_it_wrote_and_another_does_not() -> None:
    right, wrong = keyring(**{PASSPHRASE: "correct horse battery"}), keyring(**{OLD_PASSPHRASE: "wrong horse battery"})
    text = right.encrypt(b"content", salt="lineage", bound="here")

    assert b"content" == right.decrypt(text, salt="lineage", bound="here", where="w")
    with pytest.raises(StateEncrypted):
        wrong.decrypt(text, salt="lineage", bound="here", where="w")
    with pytest.raises(StateCorrupt):
        right.decrypt(text[:-8] + "AAAAAAA=", salt="lineage", bound="here", where="w")


@pytest.mark.parametrize("text", ["", "1.", "2." + "0" * 16 + ".AAAA", "1." + "0" * 16 + ".AAAA", "1.x.%%%"])
def test_text_of_another_form_is_damage(text: str) -> None:
    with pytest.raises(StateCorrupt):
        keyring(**{COMMAND: KEY}).decrypt(text, salt="s", bound="b", where="w")


@pytest.mark.parametrize(
    ("environ", "error_id"),
    [
        ({PASSPHRASE: "short"}, "weak-passphrase"),
        ({COMMAND: "printf short"}, "encryption-key-command"),
        ({COMMAND: "false"}, "encryption-key-command"),
        ({COMMAND: "no-such-program-anywhere"}, "encryption-key-command"),
        ({COMMAND: "'unclosed"}, "encryption-key-command"),
    ],
)
def test_key_that_cannot_be_had_says_why(environ: dict[str, str], error_id: str) -> None:
    with pytest.raises(StateError) as caught:
        keyring(**environ).encrypt(b"", salt="s", bound="b")

    assert [error_id] == [found.id for found in caught.value.diagnostics]


def test_key_command_runs_once_and_without_a_shell(tmp_path: Path) -> None:
    script = tmp_path / "key"
    script.write_text(f'#!/bin/sh\necho run >> "{tmp_path}/runs"\nprintf {"k" * 43}=\n')
    script.chmod(0o700)
    keys = keys_of({"PATH": "/usr/bin:/bin", COMMAND: "./key ; touch made-by-a-shell"}, tmp_path)
    for salt in ("one", "two"):
        keys.encrypt(b"", salt=salt, bound="b")

    assert "run\n" == (tmp_path / "runs").read_text()
    assert not (tmp_path / "made-by-a-shell").exists()


def test_two_keys_to_write_with_are_refused() -> None:
    with pytest.raises(StateError):
        keyring(**{PASSPHRASE: "correct horse battery", COMMAND: KEY})
