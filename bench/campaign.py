"""`python -m bench.campaign`: the fault campaign over all provider types, and its table in `docs/reliability.md`.

CI runs a tenth of it with fresh seeds: `tests/campaign`.
"""

import argparse
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.killed import KilledTrial
from bench.sections import put_section
from bench.trial import NODES, Tally, Trial, Wrong
from gpuplan.emulators.catalog import emulator_names
from gpuplan.testing.catalog import contract, contract_names
from gpuplan.testing.specs import sample_spec

SECTION = "campaign"
APPLIES = 200
"""Of every type."""
KILLED = 10
"""Trials with real processes, of every type."""


@dataclass(slots=True)
class Findings:
    """What the trials of one type came to."""

    type: str
    trials: int = 0
    tally: Tally = field(default_factory=Tally)
    wrong: list[str] = field(default_factory=list)
    """With the seed that shows it again."""


def campaign_types() -> list[str]:
    """Those that have a contract and an emulator."""
    return sorted(set(contract_names()) & set(emulator_names()))


def run_trials(name: str, *, applies: int, killed: int, seed: int) -> Findings:
    """Trials until there were so many applies, then those with real processes."""
    findings, tried = Findings(name), contract(name)
    with tempfile.TemporaryDirectory(prefix="gpuplan-campaign-") as root:
        spec = Path(root, "spec")
        spec.mkdir()
        (spec / "gpuplan.yaml").write_text(sample_spec([tried], nodes=NODES), encoding="utf-8")
        while findings.tally.applies < applies and len(findings.wrong) < 10:
            _try(findings, Trial(tried, spec, seed + findings.trials), seed + findings.trials)
        for _ in range(killed):
            folder = Path(root, str(findings.trials))
            folder.mkdir()
            _try(findings, KilledTrial(tried, folder, seed + findings.trials), seed + findings.trials)
    return findings


def _try(findings: Findings, trial: Trial | KilledTrial, seed: int) -> None:
    try:
        trial.run()
    except Wrong as exc:
        findings.wrong.append(f"{findings.type}, {type(trial).__name__} with seed {seed}: {exc}")
    findings.trials += 1
    findings.tally.add(trial.tally)


def campaign_table(found: Sequence[Findings], seed: int, seconds: float) -> str:
    heads = ("type", "applies", "destroys", "killed", "faults met", "objects", "lost or doubled", "shells left")
    rows = [
        (
            one.type,
            one.tally.applies,
            one.tally.destroys,
            one.tally.killed,
            one.tally.faults.total(),
            one.tally.objects,
            len(one.wrong),
            one.tally.shells,
        )
        for one in found
    ]
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    lines += [f"| `{row[0]}` | {' | '.join(f'{value:,}' for value in row[1:])} |" for row in rows]
    kinds = sum((one.tally.faults for one in found), start=Tally().faults)
    met = ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()) if count)
    return "\n".join([*lines, "", f"Faults met: {met}.", f"First seed {seed}; {seconds / 60:.0f} minutes."])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.campaign", description=__doc__)
    parser.add_argument("--types", type=lambda text: text.split(","), default=campaign_types())
    parser.add_argument("--applies", type=int, default=APPLIES, help="under faults, of every type")
    parser.add_argument("--killed", type=int, default=KILLED, help="trials with real processes, of every type")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9), help="of the first trial of every type")
    parser.add_argument("--page", metavar="FILE", help="put the table into this page")
    arguments = parser.parse_args()
    begun, found = time.monotonic(), list[Findings]()
    for name in arguments.types:
        one = run_trials(name, applies=arguments.applies, killed=arguments.killed, seed=arguments.seed)
        found.append(one)
        print(f"{name}: {one.trials} trials, {len(one.wrong)} wrong", file=sys.stderr, flush=True)
    table = campaign_table(found, arguments.seed, time.monotonic() - begun)
    print(table)
    wrong = [text for one in found for text in one.wrong]
    print(*wrong, sep="\n", file=sys.stderr)
    if arguments.page and not wrong:
        put_section(Path(arguments.page), SECTION, table)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
