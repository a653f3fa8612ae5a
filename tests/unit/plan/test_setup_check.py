from dataclasses import replace

import pytest

from gpuplan.core.errors import PlanError
from tests.unit.plan.build import PLAIN, PROVIDER, findings, plan, spec, want


def test_setup_where_nothing_can_run_it_is_refused_before_anything_is_rented() -> None:
    wanted = spec(want("clusters.train.nodes[0]", {"setup": "pip install torch"}))

    with pytest.raises(PlanError) as caught:
        plan(wanted, capabilities={PROVIDER: replace(PLAIN, exec=False)})

    assert "`here` has no way to run a setup" == findings(caught)["unsupported-by-provider"].summary
