"""Outputs, budget, policies, moved, imports, removed; and what is true of a configuration as a whole."""

from decimal import Decimal

import pytest

from gpuplan.core.address import Address
from gpuplan.core.desired import Import, Moved, Removed
from gpuplan.core.errors import SpecError
from gpuplan.core.secret import Secret
from tests.unit.spec.reading import HEAD, findings, ids, read

TRAIN = HEAD + "clusters: {train: {provider: cloud, nodes: 2}}\n"


def test_output_is_sensitive_when_it_says_so_or_holds_a_secret() -> None:
    text = (
        HEAD
        + """
variables: {token: {sensitive: true, default: hunter22}}
outputs:
  plain: {a: 1}
  long: {value: 1, description: one, sensitive: true}
  secret: "x ${vars.token}"
"""
    )
    outputs = read(text).outputs

    assert [({"a": 1}, False), (1, True), (Secret("x hunter22"), True)] == [
        (output.value, output.sensitive) for output in outputs.values()
    ]


def test_policy_denies_by_what_it_sees() -> None:
    text = HEAD + "variables: {most: {default: 64}}\n"
    text += "policies: [{deny: \"resource.kind == 'cluster' && resource.gpu_count > vars.most\", message: too many}]\n"
    (policy,) = read(text).policies

    assert policy.denies({"kind": "cluster", "gpu_count": 65})
    assert not policy.denies({"kind": "cluster", "gpu_count": 64})
    assert not policy.denies({"kind": "volume"})
    assert "too many" == policy.message


def test_policy_that_asks_for_what_is_not_there_says_where() -> None:
    (policy,) = read(HEAD + 'policies: [{deny: "resource.gpu_count > 1", message: no}]\n').policies

    with pytest.raises(SpecError) as caught:
        policy.denies({"kind": "volume"})

    (finding,) = caught.value.diagnostics
    assert "a value has no `gpu_count`" == finding.summary


def test_policy_that_is_no_yes_or_no_is_an_error() -> None:
    (policy,) = read(HEAD + 'policies: [{deny: "resource.n", message: no}]\n').policies

    with pytest.raises(SpecError, match="true or false"):
        policy.denies({"n": 1})


def test_budget_may_be_computed() -> None:
    assert Decimal("60.5") == read(HEAD + 'budget: {max_hourly: "${0.5 + 60.0}"}\n').max_hourly


def test_moved_imports_and_removed_are_read() -> None:
    text = (
        TRAIN
        + """
moved: [{from: clusters.old, to: clusters.train}]
imports: [{to: "clusters.train.nodes[0]", id: abc}, {to: "clusters.train.nodes[1]", id: 17}]
removed: [{from: clusters.legacy, destroy: false}, {from: volumes.old}]
"""
    )
    read_ = read(text)

    assert [Moved(Address("clusters", "old"), Address("clusters", "train"), ("moved", 0))] == list(read_.moved)
    assert [
        Import(Address("clusters", "train", None, 0), "abc", ("imports", 0)),
        Import(Address("clusters", "train", None, 1), "17", ("imports", 1)),
    ] == list(read_.imports)
    assert [
        Removed(Address("clusters", "legacy"), False, ("removed", 0)),
        Removed(Address("volumes", "old"), True, ("removed", 1)),
    ] == list(read_.removed)


def test_node_beyond_the_new_size_may_be_removed() -> None:
    assert [] == ids(TRAIN + 'removed: [{from: "clusters.train.nodes[2]", destroy: false}]\n')


def test_what_nobody_uses_is_a_warning() -> None:
    text = (
        HEAD
        + """
variables: {a: {default: 1}, b: {default: 2}}
locals: {c: 1}
volumes: {kept: {provider: cloud, lifecycle: {prevent_destroy: true}}, idle: {provider: cloud}}
outputs: {b: "${vars.b}"}
"""
    )
    assert [
        ("unused-variable", "nothing uses `vars.a`"),
        ("unused-local", "nothing uses `locals.c`"),
        ("unused-resource", "nothing uses `volumes.idle`"),
    ] == [(warning.id, warning.summary) for warning in read(text).warnings]


@pytest.mark.parametrize(
    "token",
    [
        "hf_abcdefghijklmnopqrstuvwxyz",
        "sk-proj-abcdefghijklmnopqrstuvwxyz",
        "AKIAIOSFODNN7EXAMPLE",
        "rpa_ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
        "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    ],
)
def test_tokens_are_recognised_and_not_quoted(token: str) -> None:
    with pytest.raises(SpecError) as caught:
        read(f"{HEAD}clusters: {{a: {{provider: cloud, env: {{T: 'x {token}'}}}}}}\n")

    assert ["literal-secret"] == [finding.id for finding in caught.value.diagnostics]
    assert caught.value.locator is not None
    assert token not in (caught.value.locator.line("gpuplan.yaml", 4) or "")


def test_prose_that_only_begins_like_a_token_is_no_secret() -> None:
    assert [] == ids(HEAD + "clusters: {a: {provider: cloud, env: {A: sk-learn, B: hf_hub, C: task-1}}}\n")


def digest(text: str, **variables: str) -> str:
    return read(text, variables=variables).digest


def test_digest_is_of_the_meaning_not_of_the_layout() -> None:
    flow = HEAD + "clusters: {a: {provider: cloud, nodes: 2, gpu: h100}, b: {provider: cloud}}\n"
    block = (
        HEAD + "# two\nclusters:\n  b:\n    provider: cloud\n  a:\n    gpu: H100:1\n    nodes: 2\n    provider: cloud\n"
    )

    assert digest(flow) == digest(block)


@pytest.mark.parametrize(
    "other",
    [
        "{provider: cloud, nodes: 3, gpu: H100}",
        "{provider: cloud, nodes: 2, gpu: H200}",
        "{provider: other, nodes: 2, gpu: H100}",
        "{provider: cloud, nodes: 2, gpu: H100, ttl: 1h}",
        "{provider: cloud, nodes: 2, gpu: H100, depends_on: [volumes.v]}",
    ],
)
def test_digest_changes_with_the_meaning(other: str) -> None:
    head = HEAD.replace("pool: {}", "pool: {}, other: {}") + "volumes: {v: {provider: cloud}}\n"

    assert digest(head + "clusters: {a: {provider: cloud, nodes: 2, gpu: H100}}\n") != digest(
        head + f"clusters: {{a: {other}}}\n"
    )


def test_digest_changes_with_secrets_and_with_what_deferred_expressions_hold() -> None:
    text = (
        HEAD
        + """
variables: {token: {sensitive: true, default: a}, port: {default: 1}}
clusters:
  a: {provider: cloud}
  b: {provider: cloud, env: {T: "${vars.token}", U: "${clusters.a.nodes[0].public_ip + string(vars.port)}"}}
"""
    )
    digests = {digest(text), digest(text, token="b"), digest(text, port="2"), digest(text, token="b", port="2")}

    assert 4 == len(digests)


def test_all_findings_come_in_the_order_of_the_file() -> None:
    text = (
        HEAD
        + """
clusters:
  a: {provider: cloud, env: {A: "${vars.x}"}}
  b: {provider: cloud, nodes: two}
  c: {provider: clod}
outputs: {o: "${clusters.d}"}
"""
    )
    assert ["unknown-reference", "wrong-type", "unknown-reference", "unknown-reference"] == [
        finding.id for finding in findings(text)
    ]


def test_dependencies_between_blocks_that_do_not_meet_are_no_cycle() -> None:
    text = (
        HEAD
        + """
clusters:
  a: {provider: cloud, for_each: [x, y], volumes: [{volume: "${volumes.v[each.key]}", mount: /v}]}
volumes:
  v: {provider: cloud, for_each: [x, y]}
  w: {provider: cloud, depends_on: ['clusters.a["x"]']}
"""
    )
    assert [] == ids(text)


def test_cycle_through_a_whole_resource_is_found() -> None:
    text = (
        HEAD
        + """
clusters:
  a: {provider: cloud, for_each: [x, y], depends_on: [volumes.v]}
volumes:
  v: {provider: cloud, depends_on: [clusters.a]}
"""
    )
    assert ["dependency-cycle"] == ids(text)
