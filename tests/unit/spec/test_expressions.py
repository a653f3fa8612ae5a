"""What `${ }` gives, at load and later; driven through whole specs, as users meet it."""

from collections.abc import Mapping

import pytest

from gpuplan.core.address import Address
from gpuplan.core.secret import Secret
from gpuplan.core.values import UNKNOWN, Deferred, Ref, Value, resolve
from tests.unit.spec.reading import HEAD, attrs, findings, ids, read

TRAIN = "clusters: {train: {provider: cloud, nodes: 2, region: eu}}\n"
VARIABLES = """
variables:
  n: {default: 2}
  name: {default: web}
  flag: {default: true}
  sizes: {default: {small: 1, large: 8}}
  zones: {default: [a, b]}
  token: {sensitive: true, default: hunter22}
  creds: {type: map, sensitive: true, default: {user: ana, pin: 4321}}
"""


class World:
    """A `Scope` over what is known of some resources."""

    def __init__(self, views: Mapping[str, Value], remote_ids: Mapping[str, str] | None = None) -> None:
        self._views = views
        self._remote_ids = remote_ids or {}

    def remote_id(self, address: Address) -> str | None:
        return self._remote_ids.get(str(address))

    def view(self, resource: Address) -> Value:
        return self._views[str(resource)]


def given(expression: str, more: str = "", *, environ: Mapping[str, str] | None = None) -> Value:
    """What an expression gives as the value of an output."""
    text = f"{HEAD}{VARIABLES}{more}\noutputs: {{x: {{value: {expression!r}}}}}\n"
    return read(text, environ=environ).outputs["x"].value


def deferred(expression: str, more: str = TRAIN) -> Deferred:
    value = given(expression, more)
    assert isinstance(value, Deferred)
    return value


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("${vars.n}", 2),
        ("${vars.flag}", True),
        ("${vars.sizes}", {"small": 1, "large": 8}),
        ("${vars.sizes.large}", 8),
        ("${vars.zones[1]}", "b"),
        ("${vars.sizes[locals.size]}", 8),
        ("${vars.n} of ${vars.sizes.large}", "2 of 8"),
        ("is ${vars.flag}", "is true"),
        ("$${vars.n}", "${vars.n}"),
        ("${vars.n * 2 + 1}", 5),
        ("${vars.flag ? vars.name : 'none'}", "web"),
        ("${vars.zones.map(z, z + '-1')}", ["a-1", "b-1"]),
        ("${vars.zones.join(',')}", "a,b"),
        ("${has(vars.sizes.huge) ? vars.sizes.huge : 3}", 3),
        ("${size(vars.zones)}", 2),
        ("${env.HOME}/x", "/home/ana/x"),
        ("${sha256('a')}", "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"),
        ("${base64('a')}", "YQ=="),
        ("${json(vars.sizes)}", '{"small":1,"large":8}'),
        ("${json('[1, 2]')[1]}", 2),
        ("${yaml('a: 1').a}", 1),
        ("${duration('90m')}", "1h30m"),
        ("${string(vars.flag) + string(1.5)}", "true1.5"),
        ("${'a,b'.split(',')}", ["a", "b"]),
        ("${max([vars.n, 7]) + sum([1, 2])}", 10),
    ],
)
def test_expression_gives_its_value_with_its_type(expression: str, value: Value) -> None:
    assert value == given(expression, "locals: {size: large}", environ={"HOME": "/home/ana"})


def test_locals_build_on_each_other_and_on_variables() -> None:
    assert "web-4" == given("${locals.b}", 'locals: {a: "${vars.n * 2}", b: "${vars.name}-${locals.a}"}')


def test_number_in_a_text_is_as_it_was_written() -> None:
    assert "v1.10" == given("v${locals.version}", "locals: {version: 1.10}")


def test_whole_resource_is_a_reference() -> None:
    assert Ref(Address("clusters", "train")) == given("${clusters.train}", TRAIN)
    assert Ref(Address("clusters", "train", None, 1)) == given("${clusters.train.nodes[1]}", TRAIN)


def test_attribute_the_spec_says_is_known_at_once_and_still_a_dependency() -> None:
    read_ = read(
        HEAD + 'clusters:\n  a: {provider: cloud, gpu: h100:8}\n  b: {provider: cloud, env: {G: "${clusters.a.gpu}"}}\n'
    )

    assert {"env": {"G": "H100-80GB:8"}} == attrs(read_, "clusters.b.nodes[0]")
    assert {Address("clusters", "a")} == read_.instances[Address("clusters", "b", None, 0)].depends_on


def test_fact_is_deferred_until_the_scope_has_it() -> None:
    ip = deferred("${clusters.train.nodes[0].public_ip}")

    assert {Address("clusters", "train", None, 0)} == ip.refs
    assert "1.2.3.4" == ip.evaluate(World({"clusters.train": {"nodes": [{"public_ip": "1.2.3.4"}, {}]}}))
    assert UNKNOWN == ip.evaluate(World({"clusters.train": {"nodes": [{"public_ip": UNKNOWN}, {}]}}))


def test_text_around_a_fact_waits_for_it() -> None:
    url = deferred("http://${clusters.train.nodes[0].public_ip}:${vars.n}")

    assert "http://1.2.3.4:2" == url.evaluate(World({"clusters.train": {"nodes": [{"public_ip": "1.2.3.4"}]}}))
    assert UNKNOWN == url.evaluate(World({"clusters.train": {"nodes": [{"public_ip": UNKNOWN}]}}))


def test_expression_over_facts_waits_for_all_of_them() -> None:
    hosts = deferred("${clusters.train.nodes.map(n, n.public_ip).join(',')}")

    known = [{"public_ip": "a"}, {"public_ip": "b"}]
    assert "a,b" == hosts.evaluate(World({"clusters.train": {"nodes": known}}))
    assert UNKNOWN == hosts.evaluate(World({"clusters.train": {"nodes": [known[0], {"public_ip": UNKNOWN}]}}))


class Awaited(dict[str, Value]):
    def __missing__(self, key: str) -> Value:
        return UNKNOWN


def test_what_a_resource_to_come_does_not_have_yet_is_unknown() -> None:
    world = World({"clusters.train": {"nodes": [Awaited(), Awaited()]}})

    assert UNKNOWN == deferred("${clusters.train.nodes[0].public_ip}").evaluate(world)
    assert UNKNOWN == deferred("${clusters.train.nodes.map(n, n.public_ip)}").evaluate(world)
    assert 2 == deferred("${size(clusters.train.nodes)}").evaluate(world)


def test_size_is_known_before_the_facts_are() -> None:
    count = deferred("${size(clusters.train.nodes) * 8}")

    assert 16 == count.evaluate(World({"clusters.train": {"nodes": [{"id": UNKNOWN}, {"id": UNKNOWN}]}}))


def test_expression_may_depend_on_several_resources() -> None:
    more = TRAIN + "volumes: {data: {provider: cloud}}\n"
    both = deferred("${volumes.data.path + '@' + clusters.train.nodes[1].hostname}", more)

    views: Mapping[str, Value] = {"volumes.data": {"path": "/d"}, "clusters.train": {"nodes": [{}, {"hostname": "h"}]}}
    assert {Address("volumes", "data"), Address("clusters", "train", None, 1)} == both.refs
    assert "/d@h" == both.evaluate(World(views))


def test_local_over_a_fact_is_deferred_where_it_is_used() -> None:
    ip = deferred("${locals.head.ip}", TRAIN + 'locals: {head: {ip: "${clusters.train.nodes[0].public_ip}", n: 1}}\n')

    assert "9.9.9.9" == resolve(ip, World({"clusters.train": {"nodes": [{"public_ip": "9.9.9.9"}]}}))


def test_presence_of_a_fact_can_be_asked() -> None:
    ip = deferred("${has(clusters.train.nodes[0].public_ip) ? clusters.train.nodes[0].public_ip : 'none'}")

    world = World({"clusters.train": {"nodes": [{"id": "x", "public_ip": None}]}})
    assert "none" == ip.evaluate(world)


def test_reference_inside_a_text_is_the_id() -> None:
    text = deferred("id=${volumes.data}", "volumes: {data: {provider: cloud}}\n")

    assert "id=v-1" == text.evaluate(World({}, {"volumes.data": "v-1"}))
    assert UNKNOWN == text.evaluate(World({}))


def test_whatever_touches_a_secret_is_secret() -> None:
    assert Secret("hunter22") == given("${vars.token}")
    assert Secret("Bearer hunter22") == given("Bearer ${vars.token}")
    assert Secret("HUNTER22") == given("${vars.token.upperAscii()}")
    assert Secret("4321") == given("${vars.creds.pin}")
    assert {"a": Secret("hunter22")} == given("${ {'a': vars.token} }")
    assert True is given("${vars.token != ''}")


def test_deferred_text_with_a_secret_is_secret() -> None:
    url = deferred("http://${vars.token}@${clusters.train.nodes[0].public_ip}")

    value = url.evaluate(World({"clusters.train": {"nodes": [{"public_ip": "h"}]}}))
    assert Secret("http://hunter22@h") == value


def test_secret_is_shown_nowhere() -> None:
    read_ = read(f'{HEAD}{VARIABLES}outputs: {{x: "a ${{vars.token}}"}}\n')

    assert read_.outputs["x"].sensitive
    assert "hunter22" not in repr(read_)


def test_for_each_is_seen_as_a_mapping_and_count_as_a_list() -> None:
    more = "clusters:\n  web: {provider: cloud, for_each: [eu, us]}\n  job: {provider: cloud, count: 2}\n"

    eu = deferred('${clusters.web["eu"].nodes[0].ip}', more)
    first = deferred("${clusters.job[1].nodes[0].ip}", more)

    assert {Address("clusters", "web", "eu", 0)} == eu.refs
    assert {Address("clusters", "job", 1, 0)} == first.refs
    assert "x" == eu.evaluate(World({'clusters.web["eu"]': {"nodes": [{"ip": "x"}]}}))


def test_nodes_of_a_group_are_part_of_one_instance() -> None:
    ip = deferred("${clusters.big.nodes[1].public_ip}", "clusters: {big: {provider: pool, nodes: 2}}\n")

    assert {Address("clusters", "big")} == ip.refs
    assert "b" == ip.evaluate(World({"clusters.big": {"nodes": [{"public_ip": "a"}, {"public_ip": "b"}]}}))


def test_missing_fact_is_told_with_its_place() -> None:
    ip = deferred("${clusters.train.nodes[0].tailnet}")

    with pytest.raises(Exception, match="has no `tailnet`"):
        ip.evaluate(World({"clusters.train": {"nodes": [{"public_ip": "a"}]}}))


def test_dash_belongs_to_a_name_and_is_a_minus_elsewhere() -> None:
    more = "volumes: {my-data: {provider: cloud, size_gb: 10}}\n"

    assert 10 == given("${volumes.my-data.size_gb}", more)
    assert 8 == given("${volumes.my-data.size_gb - vars.n}", more)
    assert 1 == given("${vars.n-1}")


def test_whole_expression_error_is_reported_once_per_place() -> None:
    text = (
        HEAD + 'locals: {bad: "${vars.nope}"}\n'
        'clusters: {a: {provider: cloud, env: {A: "${locals.bad}", B: "${locals.bad}"}}}\n'
    )

    assert ["unknown-reference"] == ids(text)


def test_nothing_is_reported_twice_because_of_a_variable_without_value() -> None:
    text = (
        HEAD + "variables: {n: {type: integer}}\n"
        'clusters: {a: {provider: cloud, nodes: "${vars.n}", disk_gb: "${vars.n * 2}"}}\n'
    )

    assert ["missing-variable"] == [finding.id for finding in findings(text)]
