"""What is wrong with a stored state, and what can safely be made of it. Pure: bytes in, findings and a new state out.

Called by `workflow.mending` for `state verify` and `state recover`. Nothing is invented: a state is put together from a
snapshot that verifies (the present one, else the newest that was kept) and from the journal up to its first damage.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gpuplan.core.address import Address
from gpuplan.core.errors import StateCorrupt, StateEncrypted
from gpuplan.core.state import Begun, Buried, Encrypted, Ended, Entry, Noted, OutputsSet, Renamed, State
from gpuplan.core.values import Ref
from gpuplan.state.codec import decode_state
from gpuplan.state.encryption import readable_entries, readable_state
from gpuplan.state.encryption_keys import Keyring
from gpuplan.state.journal import replay
from gpuplan.state.raw import RawState
from gpuplan.state.wal import Line, read_lines


@dataclass(frozen=True, slots=True)
class Finding:
    """`where` names the text, and the line where there is one. What is no damage is worth knowing."""

    where: str
    what: str
    is_damage: bool = True


@dataclass(frozen=True, slots=True)
class Mended:
    """A state that verifies, how it came about, and what is not in it."""

    state: State
    steps: tuple[str, ...]
    lost: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Inspection:
    """`mended` None: nothing has to be mended, or nothing can be."""

    findings: tuple[Finding, ...]
    mended: Mended | None = None

    @property
    def is_damaged(self) -> bool:
        return any(finding.is_damage for finding in self.findings)


@dataclass(slots=True)
class _Journal:
    """As far as it can be read: the sound entries, and what comes behind the first damage."""

    lineage: str
    serial: int
    entries: list[Entry] = field(default_factory=list)
    damage: Finding | None = None
    behind: list[str] = field(default_factory=list)


def inspect(raw: RawState, keys: Keyring, where: str) -> Inspection:
    """Read all of it. Raises StateEncrypted for a state without its key, StateError for one that is too new."""
    findings: list[Finding] = []
    snapshot = None if raw.snapshot is None else _snapshot(raw.snapshot, keys, where, findings)
    kept = _kept(raw.kept, keys, findings)
    journal = None if raw.journal is None else _journal(raw.journal, keys, f"the journal of {where}", findings)
    if raw.snapshot is None and raw.kept:
        findings.append(Finding(where, "there is no snapshot, only earlier ones", raw.journal is not None))
    if snapshot is not None and snapshot.moved_to:
        findings.append(Finding(where, f"the state has moved to {snapshot.moved_to}", is_damage=False))
        return Inspection(tuple(findings))
    base = snapshot or _best(kept, journal)
    if base is None:
        if raw.snapshot is None and raw.journal is not None:
            findings.append(Finding(where, "there is a journal, and no snapshot"))
        return Inspection(tuple(findings))
    entries, is_strange = _following(base, journal, is_present=snapshot is not None)
    if is_strange and journal is not None:
        what = f"it continues serial {journal.serial} of lineage {journal.lineage}, and there is none"
        findings.append(Finding(f"the journal of {where}", what))
    state = replay(base, entries)
    findings += _references(state, where)
    needs = (
        snapshot is None,
        journal is not None and journal.damage is not None,
        is_strange,
        _is_headless(raw, journal),
    )
    if not any(needs):
        return Inspection(tuple(findings))
    serial = _next_serial(base, raw, journal, is_restored=snapshot is None)
    steps, lost = _told(base, snapshot is None, journal, entries, is_strange, _is_headless(raw, journal))
    return Inspection(tuple(findings), Mended(replace(state, serial=serial), steps, lost))


def _next_serial(base: State, raw: RawState, journal: _Journal | None, *, is_restored: bool) -> int:
    """Above any that there can have been: a plan for what is lost must not fit what is mended."""
    seen = [base.serial, *raw.kept, *([] if journal is None else [journal.serial])]
    # The snapshot that cannot be read may be the one after all of them.
    return max(seen) + (2 if is_restored else 1)


def _is_headless(raw: RawState, journal: _Journal | None) -> bool:
    return raw.journal is not None and journal is None


def _snapshot(content: bytes, keys: Keyring, where: str, findings: list[Finding]) -> State | None:
    try:
        return readable_state(decode_state(content, where), keys, where)
    except StateCorrupt as exc:
        findings.append(Finding(where, _said(exc)))
        return None


def _kept(contents: Mapping[int, bytes], keys: Keyring, findings: list[Finding]) -> list[State]:
    """Those that can be read, newest first."""
    found = []
    for serial in sorted(contents, reverse=True):
        where = f"the kept snapshot {serial}"
        try:
            state = _snapshot(contents[serial], keys, where, findings)
        except StateEncrypted:
            findings.append(Finding(where, "it is encrypted under a key that is not there", is_damage=False))
            continue
        if state is not None and not state.moved_to:
            found.append(state)
    return found


def _journal(content: bytes, keys: Keyring, where: str, findings: list[Finding]) -> _Journal | None:
    """None where not even its first line can be read: then no line can be checked."""
    try:
        lineage, serial, lines = read_lines(content, where)
    except StateCorrupt as exc:
        findings.append(Finding(f"{where}:1", _said(exc)))
        return None
    base = State(lineage, serial, key=bytes(32))
    journal = _Journal(lineage, serial)
    for number, line in enumerate(lines):
        entries, problem = _entries_of(line, base, number, keys, where)
        if journal.damage is not None:
            journal.behind += _described(line.number, entries, problem)
        elif not problem:
            journal.entries += entries
        elif line.is_torn:
            what = "the end of an append that was never acknowledged; the next command drops it"
            findings.append(Finding(f"{where}:{line.number}", what, is_damage=False))
            break
        else:
            journal.damage = Finding(f"{where}:{line.number}", problem)
            findings.append(journal.damage)
            journal.behind += _described(line.number, (), problem)
    return journal


def _entries_of(line: Line, base: State, number: int, keys: Keyring, where: str) -> tuple[Sequence[Entry], str]:
    """What a line says in the clear, or why it cannot be read."""
    if line.entry is None:
        return (), line.problem
    if not isinstance(line.entry, Encrypted):
        return (line.entry,), ""
    try:
        return readable_entries(line.entry, base, number, keys, where), ""
    except StateCorrupt as exc:
        return (), _said(exc)


def _best(kept: Sequence[State], journal: _Journal | None) -> State | None:
    """The newest kept snapshot that a journal, if there is one, may continue."""
    fitting = (state for state in kept if journal is None or state.lineage == journal.lineage)
    return next(fitting, None)


def _following(base: State, journal: _Journal | None, *, is_present: bool) -> tuple[Sequence[Entry], bool]:
    """The entries that come after a snapshot, and whether the journal belongs to another one."""
    if journal is None:
        return (), False
    if journal.lineage != base.lineage:
        return (), True
    if not is_present:
        # Entries say how things are, not how they changed: after an older snapshot they are as true.
        return (journal.entries, False) if journal.serial >= base.serial else ((), False)
    if journal.serial == base.serial:
        return journal.entries, False
    return (), journal.serial + 1 != base.serial


def _told(
    base: State, is_restored: bool, journal: _Journal | None, entries: Sequence[Entry], is_strange: bool, headless: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    steps, lost = [], []
    if is_restored:
        steps.append(f"take the kept snapshot {base.serial}, {_count(len(base.instances), 'instance')}")
        lost.append(f"what was recorded after serial {base.serial} and is not in the journal")
    if entries:
        steps.append(f"add {_count(len(entries), 'entry')} of the journal")
    if journal is not None and journal.damage is not None:
        steps.append(f"cut the journal at {journal.damage.where.rpartition(' ')[2]}")
        lost += journal.behind
    if headless or is_strange:
        steps.append("leave the journal away: nothing tells what it continues")
        lost.append("everything in the journal")
    return tuple(steps), tuple(lost)


def _references(state: State, where: str) -> Iterator[Finding]:
    objects: dict[tuple[str, str, str, str], Address] = {}
    for recorded in state.instances.values():
        remote = (recorded.provider, recorded.account, recorded.kind.value, recorded.remote_id)
        if remote in objects:
            yield Finding(where, f"`{objects[remote]}` and `{recorded.address}` are both {recorded.remote_id}")
        objects[remote] = recorded.address
    known = {each for address in state.instances for each in (address, address.block, address.resource)}
    for recorded in state.instances.values():
        for missing in sorted({*recorded.depends_on, *_refs(recorded.attrs)} - known, key=str):
            yield Finding(where, f"`{recorded.address}` refers to `{missing}`, which is not there", is_damage=False)
    for intent in state.intents.values():
        what = f"intent {intent.seq} is open: {intent.action} `{intent.address}`; the next plan looks what came of it"
        yield Finding(where, what, is_damage=False)


def _refs(value: object) -> Iterator[Address]:
    if isinstance(value, Ref):
        yield value.address
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _refs(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _refs(item)


def _described(number: int, entries: Iterable[Entry], problem: str) -> list[str]:
    if problem:
        return [f"line {number}: cannot be read"]
    return [f"line {number}: {_event(entry)}" for entry in entries]


def _event(entry: Entry) -> str:
    match entry:
        case Noted(address, None):
            return f"`{address}` is gone"
        case Noted(address, recorded):
            assert recorded is not None
            return (
                f"`{address}` is {recorded.remote_id or 'not named yet'} at {recorded.provider}, {recorded.phase.value}"
            )
        case Begun(intent):
            return f"began to {intent.action} `{intent.address}`, token {intent.token or 'none'}"
        case Ended(seq, outcome):
            return f"intent {seq} ended: {outcome.value}"
        case Renamed(source, target):
            return f"`{source}` became `{target}`"
        case OutputsSet():
            return "the outputs"
        case Buried(address, _):
            return f"the end of `{address}`"
        case Encrypted():
            return "encrypted entries"


def _said(exc: StateCorrupt) -> str:
    return exc.diagnostics[0].facts[0]


def _count(number: int, noun: str) -> str:
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun[:-1]}ies" if noun.endswith("y") else f"{number} {noun}s"
