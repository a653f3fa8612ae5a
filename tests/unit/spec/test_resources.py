"""From resources to instances."""

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind, Objective, OnFailure, Settings, Timeouts
from gpuplan.core.diagnostics import At
from gpuplan.core.kinds import NodeAttrs, Port
from gpuplan.core.values import Ref
from tests.unit.spec.reading import HEAD, addresses, attrs, ids, read


def train(fields: str, more: str = "") -> str:
    return f"{HEAD}{more}\nclusters:\n  train: {{provider: cloud, {fields}}}\n"


def test_nodes_of_a_cluster_are_instances_that_share_what_they_are() -> None:
    read_ = read(train("nodes: 3, gpu: H100"))

    assert [f"clusters.train.nodes[{number}]" for number in range(3)] == addresses(read_)
    assert 1 == len({id(desired.candidates) for desired in read_.instances.values()})
    assert {Kind.NODE} == {desired.kind for desired in read_.instances.values()}


def test_cluster_without_nodes_has_no_instance() -> None:
    assert [] == addresses(read(train("nodes: 0")))


def test_group_is_one_instance_that_knows_its_size() -> None:
    read_ = read(HEAD + "clusters: {big: {provider: pool, nodes: 4, gpu: H100:8}}\n")

    assert ["clusters.big"] == addresses(read_)
    assert Kind.GROUP is read_.instances[Address("clusters", "big")].kind
    assert {"nodes": 4, "gpu": "H100-80GB:8"} == attrs(read_, "clusters.big")


def test_count_makes_numbered_blocks_that_share_what_does_not_vary() -> None:
    read_ = read(HEAD + "clusters: {job: {provider: cloud, count: 2, nodes: 2}}\n")

    assert ["clusters.job[0].nodes[0]", "clusters.job[0].nodes[1]"] == addresses(read_)[:2]
    assert 4 == len(addresses(read_))
    assert 1 == len({id(desired.candidates) for desired in read_.instances.values()})


def test_for_each_makes_a_block_for_every_key() -> None:
    text = (
        HEAD
        + """
variables: {sites: {default: {eu: 1, us: 2}}}
clusters:
  web:
    provider: cloud
    for_each: "${vars.sites}"
    nodes: "${each.value}"
    env: {SITE: "${each.key}"}
"""
    )
    read_ = read(text)

    assert ['clusters.web["eu"].nodes[0]', 'clusters.web["us"].nodes[0]', 'clusters.web["us"].nodes[1]'] == addresses(
        read_
    )
    assert {"env": {"SITE": "us"}} == attrs(read_, 'clusters.web["us"].nodes[1]')


def test_attributes_come_in_the_one_form_that_adapters_read() -> None:
    fields = """
      gpu: "nvidia h100 80gb:8", cpu: ">= 32", memory_gb: "256", disk_gb: 100, ports: [8000, "8000/tcp", "53/udp"],
      env: {N: 1, DEBUG: true, V: 1.10}, labels: {team: 3}, spot: true, command: [sleep, 5]
    """
    found = attrs(read(train(fields)), "clusters.train.nodes[0]")

    assert {
        "gpu": "H100-80GB:8",
        "cpu": ">=32",
        "memory_gb": 256,
        "disk_gb": 100,
        "ports": [8000, 8000, "53/udp"],
        "env": {"N": "1", "DEBUG": "true", "V": "1.10"},
        "labels": {"team": "3"},
        "spot": {},
        "command": ["sleep", "5"],
    } == found
    assert (Port(8000), Port(8000), Port(53, "udp")) == NodeAttrs.of(found).ports


def test_what_says_nothing_is_not_an_attribute() -> None:
    text = train('spot: false, region: "${vars.region}"', "variables: {region: {default: null}}")

    assert {} == attrs(read(text), "clusters.train.nodes[0]")


def test_value_of_an_expression_takes_the_same_form_as_a_written_one() -> None:
    text = train('gpu: "${vars.gpu}", ports: "${[8000, 53]}"', "variables: {gpu: {default: 'h100:8'}}")

    assert {"gpu": "H100-80GB:8", "ports": [8000, 53]} == attrs(read(text), "clusters.train.nodes[0]")


def test_value_of_an_expression_is_checked_like_a_written_one() -> None:
    assert ["unknown-gpu"] == ids(train("gpu: \"${'H1' + '11'}\""))
    assert ["wrong-form"] == ids(train("ports: [\"${'http'}\"]"))
    assert ["unknown-field"] == ids(train("spot: \"${ {'max_prize': 2} }\""))


def test_placement_gives_candidates_with_what_the_cluster_says_for_all() -> None:
    text = (
        HEAD
        + """
clusters:
  serve:
    image: vllm
    placement:
      any_of:
        - {provider: cloud, gpu: L40S}
        - {provider: cloud, gpu: RTX4090:2, image: other}
      objective: cheapest
      max_price: 3.50
"""
    )
    desired = read(text).instances[Address("clusters", "serve", None, 0)]

    assert [{"image": "vllm", "gpu": "L40S:1"}, {"image": "other", "gpu": "RTX4090:2"}] == [
        candidate.attrs for candidate in desired.candidates
    ]
    assert (Objective.CHEAPEST, "3.5") == (desired.settings.objective, str(desired.settings.max_price))


def test_attribute_of_a_candidate_is_found_where_it_is_written() -> None:
    text = (
        HEAD + "clusters:\n  a:\n    image: x\n    placement:\n      any_of:\n        - {provider: cloud, gpu: L40S}\n"
    )
    read_ = read(text)
    desired = read_.instances[Address("clusters", "a", None, 0)]
    (candidate,) = desired.candidates

    assert At(("clusters", "a", "image")) == read_.at(desired, candidate, "image")
    assert At(("clusters", "a", "placement", "any_of", 0, "gpu")) == read_.at(desired, candidate, "gpu")


def test_settings_are_read_in_plain_units() -> None:
    text = train(
        "ttl: 1h30m, on_failure: keep, timeouts: {create: 20m}, update: {max_unavailable: 2},"
        " lifecycle: {create_before_destroy: true, ignore_changes: [env.DEBUG], replace_triggered_by: [volumes.data]}",
        "volumes: {data: {provider: cloud}}",
    )
    settings = read(text).instances[Address("clusters", "train", None, 0)].settings

    assert (5400, OnFailure.KEEP, Timeouts(create=1200), 2) == (
        settings.ttl_seconds,
        settings.on_failure,
        settings.timeouts,
        settings.max_unavailable,
    )
    assert (True, ("env.DEBUG",), (Address("volumes", "data"),)) == (
        settings.lifecycle.create_before_destroy,
        settings.lifecycle.ignore_changes,
        settings.lifecycle.replace_triggered_by,
    )


def test_ordinary_resources_share_one_settings_object() -> None:
    read_ = read(HEAD + "clusters: {a: {provider: cloud}, b: {provider: cloud}}\n")

    assert 1 == len({id(desired.settings) for desired in read_.instances.values()})
    assert {Settings()} == {desired.settings for desired in read_.instances.values()}


def test_references_and_depends_on_are_dependencies() -> None:
    text = train(
        'depends_on: [volumes.b, "${networks.n}"], volumes: [{volume: "${volumes.a}", mount: /a}]',
        "volumes: {a: {provider: cloud}, b: {provider: cloud}}\nnetworks: {n: {provider: cloud}}",
    )
    desired = read(text).instances[Address("clusters", "train", None, 0)]

    assert {"volumes.a", "volumes.b", "networks.n"} == set(map(str, desired.depends_on))
    assert {"volumes": [{"volume": Ref(Address("volumes", "a")), "mount": "/a"}]} == desired.candidates[0].attrs


def test_each_block_refers_to_its_own_volume() -> None:
    text = (
        HEAD
        + """
volumes: {data: {provider: cloud, for_each: [a, b]}}
clusters:
  web: {provider: cloud, for_each: [a, b], volumes: [{volume: "${volumes.data[each.key]}", mount: /data}]}
"""
    )
    read_ = read(text)

    assert {Address("volumes", "data", "b")} == read_.instances[Address("clusters", "web", "b", 0)].depends_on


def test_service_and_job_live_where_their_cluster_lives() -> None:
    text = (
        HEAD
        + """
clusters:
  serve: {placement: {any_of: [{provider: cloud, gpu: L4}, {provider: other, gpu: L4}, {provider: cloud, gpu: T4}]}}
services:
  vllm: {on: "${clusters.serve}", image: vllm, ports: [8000], health: {http: /health, port: 8000, interval: 90s}}
jobs:
  eval: {on: clusters.serve, command: [python, eval.py], timeout: 120m, retries: 1}
"""
    )
    read_ = read(text, "providers: {other: {}}\n")

    service = read_.instances[Address("services", "vllm", None, 0)]
    assert (Kind.SERVICE, ["cloud", "other"]) == (service.kind, [c.provider for c in service.candidates])
    assert {Address("clusters", "serve", None, 0)} == service.depends_on
    assert {"http": "/health", "port": 8000, "interval": "1m30s"} == attrs(read_, "services.vllm.nodes[0]")["health"]
    assert {
        "on": Ref(Address("clusters", "serve", None, 0)),
        "command": ["python", "eval.py"],
        "timeout": "2h",
        "retries": 1,
    } == (attrs(read_, "jobs.eval.nodes[0]"))


KEYS = "ssh_keys: {team: {public_key: 'ssh-ed25519  AAAA  ana '}}\n"


def test_shared_key_exists_once_at_each_provider_that_keeps_keys() -> None:
    text = (
        HEAD
        + KEYS
        + """
clusters:
  a: {provider: cloud, ssh_keys: ["${ssh_keys.team}"]}
  b: {provider: cloud, ssh_keys: ["${ssh_keys.team}"]}
  c: {provider: other, ssh_keys: ["${ssh_keys.team}"]}
"""
    )
    read_ = read(text, "providers: {other: {}}\n")

    assert ['ssh_keys.team["cloud"]', 'ssh_keys.team["other"]'] == [a for a in addresses(read_) if a.startswith("ssh")]
    assert {"ssh_keys": [Ref(Address("ssh_keys", "team", "other"))]} == attrs(read_, "clusters.c.nodes[0]")
    assert {"public_key": "ssh-ed25519 AAAA ana"} == attrs(read_, 'ssh_keys.team["cloud"]')


def test_shared_key_is_its_text_at_a_provider_that_keeps_none() -> None:
    read_ = read(HEAD + KEYS + 'clusters: {a: {provider: pool, ssh_keys: ["${ssh_keys.team}"]}}\n')

    assert ["clusters.a"] == addresses(read_)
    assert ["ssh-ed25519 AAAA ana"] == attrs(read_, "clusters.a")["ssh_keys"]


def test_key_with_a_provider_is_one_instance() -> None:
    read_ = read(HEAD + "ssh_keys: {team: {public_key: ssh-ed25519 A, provider: cloud}}\n")

    assert ["ssh_keys.team"] == addresses(read_)


def test_options_of_nodes_are_checked_by_their_provider() -> None:
    assert {"options": {"bid": 0.5}} == attrs(read(train("options: {bid: 0.5}")), "clusters.train.nodes[0]")
    assert ["wrong-type"] == ids(train("options: {bid: a lot}"))


def test_options_of_a_provider_reach_its_block_in_plain() -> None:
    text = """
version: 1
project: test
variables: {key: {sensitive: true, default: hunter22}}
providers:
  mine: {type: cloud, retired: true, max_concurrency: 3, regions: [EU], api_key: "${vars.key}"}
"""
    block = read(text).providers["mine"]

    assert ("cloud", True, 3) == (block.type, block.retired, block.max_concurrency)
    assert {"regions": ["EU"], "api_key": "hunter22"} == block.options
    assert "hunter22" not in repr(block)


def test_firewall_rules_open_a_port_a_range_or_all_of_a_protocol() -> None:
    rules = '[{port: "22"}, {port: "8000-8010", protocol: udp}, {protocol: icmp}]'
    desired = read(f"{HEAD}networks: {{lan: {{provider: cloud, rules: {rules}}}}}").instances[
        Address("networks", "lan")
    ]

    assert [{"port": 22}, {"port": "8000-8010", "protocol": "udp"}, {"protocol": "icmp"}] == desired.candidates[
        0
    ].attrs["rules"]


def test_service_runs_on_every_node_and_job_on_one_unless_they_say_otherwise() -> None:
    text = (
        HEAD
        + """
clusters:
  serve: {provider: cloud, nodes: 3, gpu: L4}
services:
  all: {on: "${clusters.serve}", command: a}
  some: {on: "${clusters.serve}", nodes: 2, command: a}
  named: {on: "${clusters.serve.nodes[1]}", command: a}
jobs:
  one: {on: "${clusters.serve}", command: a}
  ranks: {on: "${clusters.serve}", nodes: all, command: a}
"""
    )
    found = read(text)

    sizes = {name: sum(1 for each in found.instances if each.name == name) for name in ("all", "some", "one", "ranks")}
    assert {"all": 3, "some": 2, "one": 1, "ranks": 3} == sizes
    assert Ref(Address("clusters", "serve", None, 1)) == attrs(found, "services.named")["on"]
    nodes = [Address("clusters", "serve", None, index) for index in range(3)]
    assert [Ref(node) for node in nodes] == attrs(found, "jobs.ranks.nodes[2]")["peers"]
    assert set(nodes) == found.instances[Address("jobs", "ranks", None, 2)].depends_on


def test_service_on_more_nodes_than_there_are_is_refused() -> None:
    clusters = "clusters: {serve: {provider: cloud, nodes: 3}}\n"

    assert ["out-of-range"] == ids(
        HEAD + clusters + "services: {web: {on: '${clusters.serve}', nodes: 4, command: a}}\n"
    )
