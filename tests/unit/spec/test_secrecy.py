"""Where a secret may stand, and what other resources may know of it."""

import pytest

from gpuplan.core.diagnostics import At
from gpuplan.core.errors import PlanError
from gpuplan.core.observed import Survey
from gpuplan.core.plan import Plan, PlanOptions
from gpuplan.core.secret import Sealed, Secret
from gpuplan.core.state import State
from gpuplan.plan.planner import make_plan
from gpuplan.testing.memory_capabilities import memory_capabilities
from tests.unit.plan.build import NOW, address, have
from tests.unit.spec.reading import HEAD, attrs, findings, read

KEY = HEAD + "variables: {key: {type: string, sensitive: true, default: hunter2-hunter2}}\n"


def cluster(field: str) -> str:
    return KEY + f"clusters:\n  head: {{provider: cloud}}\n  a: {{provider: cloud, {field}}}\n"


@pytest.mark.parametrize(
    ("field", "path"),
    [
        ('command: "run --key ${vars.key}"', ("command",)),
        ('command: [run, --key, "${vars.key}"]', ("command", 2)),
        ('command: "run --key ${vars.key} --at ${clusters.head.nodes[0].public_ip}"', ("command",)),
        ('command: "${vars.key + clusters.head.nodes[0].public_ip}"', ("command",)),
        ('image: "registry.example/${vars.key}"', ("image",)),
        ('labels: {key: "${vars.key}"}', ("labels", "key")),
    ],
)
def test_a_secret_that_would_be_sent_in_clear_is_an_error_where_it_stands(field: str, path: tuple[str, ...]) -> None:
    (finding,) = findings(cluster(field))

    assert ("secret-misplaced", At(("clusters", "a", *path))) == (finding.id, finding.labels[0].where)


def test_of_a_command_the_way_out_is_the_environment() -> None:
    (finding,) = findings(cluster('command: "${vars.key}"'))

    assert "give it in `env`, and let the command read it from there: `$NAME`" == finding.hint


def test_a_place_of_a_placement_is_looked_into() -> None:
    text = KEY + 'clusters: {a: {placement: {any_of: [{provider: cloud, command: "${vars.key}"}]}}}\n'

    assert ["secret-misplaced"] == [finding.id for finding in findings(text)]


@pytest.mark.parametrize(
    "field", ['env: {KEY: "${vars.key}"}', 'setup: "login ${vars.key}"', 'user_data: "${vars.key}"']
)
def test_a_secret_may_be_where_it_is_kept(field: str) -> None:
    assert () == findings(cluster(field))


OTHERS = """\
clusters:
  db: {{provider: cloud, env: {{PASSWORD: "${{vars.key}}", USER: "u${{vars.number}}"}}}}
  a: {{provider: cloud, {field}}}
"""


def planned(field: str) -> Plan:
    """With `db` as it was, unchanged."""
    more = "variables: {key: {type: string, sensitive: true, default: hunter2-hunter2}, number: {default: 1}}\n"
    configuration = read(HEAD + more + OTHERS.format(field=field))
    node = have("clusters.db.nodes[0]", {"env": {"PASSWORD": Sealed("x"), "USER": "u1"}}, provider="cloud")
    prior = State("lineage", 1, b"k" * 32, "test", {node.address: node})
    return make_plan(
        configuration,
        prior,
        Survey({}),
        capabilities={"cloud": memory_capabilities()},
        offers={},
        options=PlanOptions(refreshed=False),
        now=NOW,
    )


@pytest.mark.parametrize(
    ("field", "path"),
    [
        ('env: {P: "${clusters.db.nodes[0].env.PASSWORD}"}', ("env", "P")),
        ('env: {P: "pw=${clusters.db.nodes[0].env.PASSWORD}"}', ("env", "P")),
        ('env: {P: "${clusters.db.nodes[0].env.PASSWORD + string(1)}"}', ("env", "P")),
        ('env: "${clusters.db.nodes[0].env}"', ("env", "PASSWORD")),
    ],
)
def test_a_secret_of_another_resource_is_an_error_of_the_plan_where_it_is_asked_for(
    field: str, path: tuple[str, ...]
) -> None:
    with pytest.raises(PlanError) as caught:
        planned(field)

    (finding,) = caught.value.diagnostics
    assert ("secret-reference", At(("clusters", "a", *path))) == (finding.id, finding.labels[0].where)


def test_what_is_not_secret_beside_a_secret_is_known() -> None:
    made = planned('env: {U: "${clusters.db.nodes[0].env.USER}", ALL: "${clusters.db.nodes.map(n, n.env.USER)[0]}"}')

    (place,) = made.changes[address("clusters.a.nodes[0]")].places
    assert place.attrs is not None
    assert {"U": "u1", "ALL": "u1"} == place.attrs["env"]


def test_a_secret_variable_reaches_its_own_resource() -> None:
    assert {"KEY": Secret("hunter2-hunter2")} == attrs(
        read(cluster('env: {KEY: "${vars.key}"}')), "clusters.a.nodes[0]"
    )["env"]
