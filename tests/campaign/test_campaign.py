"""A tenth of the fault campaign, with fresh seeds: `python -m bench.campaign` is the whole of it."""

import secrets

import pytest

from bench.campaign import APPLIES, campaign_types, run_trials


@pytest.mark.parametrize("name", campaign_types())
def test_nothing_is_lost_or_doubled_under_faults_and_kills(name: str) -> None:
    findings = run_trials(name, applies=APPLIES // 10, killed=1, seed=secrets.randbelow(10**9))

    assert [] == findings.wrong
    assert findings.tally.killed > 0
    assert findings.tally.faults.total() > findings.tally.applies
