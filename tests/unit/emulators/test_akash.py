"""The emulated Akash reads SDLs as the official SDK does, and lives by the chain's rules."""

import json
from typing import Any

import pytest
import yaml

from gpuplan.emulators.akash import EMULATOR
from gpuplan.emulators.akash_sdl import BadSdl, hash_of, manifest_of, read_sdl
from gpuplan.emulators.http import Request
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import World
from gpuplan.testing.clock import FakeClock

SAMPLE = """
version: "2.0"
endpoints: {pubip: {kind: ip}}
services:
  api:
    image: ghcr.io/acme/api:1.2.3
    command: ["bash", "-lc"]
    args: ["echo <hi> && sleep infinity"]
    env: ["A=1", "B=x&y", "C=\\u00e9"]
    credentials: {host: ghcr.io, username: u, password: hunter22}
    expose:
      - {port: 22, as: 22, to: [{global: true, ip: pubip}]}
      - {port: 8000, as: 80, accept: [demo.example.com], to: [{global: true}]}
      - {port: 9000, proto: udp, to: [{service: worker}, {global: true}]}
    params: {storage: {data: {mount: /workspace}, shm: {mount: /dev/shm}}}
  worker: {image: "redis:7", expose: [{port: 6379, to: [{service: api}]}]}
profiles:
  compute:
    gpu:
      resources:
        cpu: {units: "7500m"}
        memory: {size: 64Gi}
        storage:
          - {size: 50Gi}
          - {name: data, size: 200Gi, attributes: {persistent: true, class: beta3}}
          - {name: shm, size: 8Gi, attributes: {class: ram}}
        gpu: {units: 2, attributes: {vendor: {nvidia: [{model: a100, ram: 80Gi}, {model: h100}]}}}
    small: {resources: {cpu: {units: 0.5}, memory: {size: 512Mi}, storage: {size: 1Gi}}}
  placement:
    p-one:
      attributes: {region: us-west}
      pricing: {gpu: {denom: uact, amount: 100000}, small: {denom: uact, amount: 1000}}
deployment: {api: {p-one: {profile: gpu, count: 1}}, worker: {p-one: {profile: small, count: 2}}}
"""


@pytest.fixture
def site() -> Site:
    return Site(EMULATOR, World(FakeClock()))


def call(site: Site, method: str, path: str, body: object = None, **query: str) -> tuple[int, Any]:
    content = b"" if body is None else json.dumps(body).encode()
    given = {name: [value] for name, value in query.items()}
    response = site.visit(Request(method, path, given, {"x-api-key": "ac.sk.test"}, content)).response
    return response.status, response.body


def deploy(site: Site, deposit: float = 5) -> str:
    status, answer = call(site, "POST", "/v1/deployments", {"data": {"sdl": SAMPLE, "deposit": deposit}})
    assert 201 == status, answer
    return str(answer["data"]["dseq"])


def test_a_manifest_is_that_of_the_official_sdk() -> None:
    # The vector mounts no memory; the check of mounts is not the SDK's.
    text = SAMPLE.replace(", shm: {mount: /dev/shm}", "")
    assert "JHe6jSOxw4exJY+HYI37IIdi3gZAtCnmviyit85pebw=" == hash_of(manifest_of(yaml.safe_load(text)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('version: "2.0"', 'version: "3"'),
        ("password: hunter22", "password: short"),
        ("units: 2, attributes", "units: 0, attributes"),
        ("class: beta3", "class: ram"),
        ("size: 64Gi", "size: much"),
        ("denom: uact, amount: 100000", "denom: usd, amount: 100000"),
        ("global: true", "service: worker"),
    ],
)
def test_an_sdl_that_is_wrong_is_refused(old: str, new: str) -> None:
    assert old in SAMPLE
    with pytest.raises(BadSdl, match="Invalid SDL"):
        read_sdl(SAMPLE.replace(old, new))


def test_bids_come_in_one_by_one_and_are_withdrawn_when_nobody_takes_them(site: Site) -> None:
    dseq = deploy(site)
    counts = []
    for _ in range(4):
        counts.append(len(call(site, "GET", "/v1/bids", dseq=dseq)[1]["data"]))
        site.world.time.advance(16)
    site.world.time.advance(300)
    states = {row["bid"]["state"] for row in call(site, "GET", f"/v1/bids/{dseq}")[1]["data"]}

    assert 0 == counts[0] < counts[1] <= counts[2]
    assert {"closed"} == states


def test_a_lease_is_made_once_for_an_order(site: Site) -> None:
    dseq = deploy(site)
    site.world.time.advance(100)
    bids = call(site, "GET", "/v1/bids", dseq=dseq)[1]["data"]
    manifest = manifest_of(read_sdl(SAMPLE))
    orders = [{"dseq": dseq, "gseq": 1, "oseq": 1, "provider": row["bid"]["id"]["provider"]} for row in bids]

    def lease(order: dict[str, Any]) -> tuple[int, Any]:
        return call(site, "POST", "/v1/leases", {"manifest": manifest, "leases": [order]})

    assert [200, 200] == [lease(orders[0])[0], lease(orders[0])[0]]
    assert 1 == len(call(site, "GET", f"/v1/deployments/{dseq}")[1]["data"]["leases"])
    if len(orders) > 1:
        status, answer = lease(orders[1])
        assert 400 == status
        assert "already been matched" in answer["message"]


def test_a_closed_deployment_is_still_told_and_closed_again(site: Site) -> None:
    dseq = deploy(site)

    assert (200, {"data": {"success": True}}) == call(site, "DELETE", f"/v1/deployments/{dseq}")
    assert (200, {"data": {"success": True}}) == call(site, "DELETE", f"/v1/deployments/{dseq}")
    assert "closed" == call(site, "GET", f"/v1/deployments/{dseq}")[1]["data"]["deployment"]["state"]
    assert [] == call(site, "GET", "/v1/deployments")[1]["data"]["deployments"]
    assert 404 == call(site, "DELETE", "/v1/deployments/1")[0]


def test_two_deployments_of_one_millisecond_collide(site: Site) -> None:
    deploy(site)
    status, answer = call(site, "POST", "/v1/deployments", {"data": {"sdl": SAMPLE, "deposit": 5}})

    assert 400 == status
    assert "already exists" in answer["message"]


@pytest.mark.parametrize(("deposit", "status"), [(0.1, 400), (5000, 402), (None, 400)])
def test_a_deposit_must_be_enough_and_there(site: Site, deposit: float | None, status: int) -> None:
    body = {"data": {"sdl": SAMPLE, "deposit": deposit}}

    assert status == call(site, "POST", "/v1/deployments", body)[0]


def test_deposits_lock_the_balance_until_the_deployment_is_closed(site: Site) -> None:
    dseq = deploy(site, 400)
    locked = call(site, "GET", "/v1/balances")[1]["data"]
    call(site, "DELETE", f"/v1/deployments/{dseq}")

    assert (600_000_000, 400_000_000) == (locked["balance"], locked["deployments"])
    assert 1_000_000_000 == call(site, "GET", "/v1/balances")[1]["data"]["balance"]


def test_whether_there_is_more_is_told_only_to_who_pages(site: Site) -> None:
    for _ in range(3):
        deploy(site)
        site.world.time.advance(1)

    def more(**query: str) -> bool:
        answer = call(site, "GET", "/v1/deployments", **query)[1]
        return bool(answer["data"]["pagination"]["hasMore"])

    assert [False, True] == [more(limit="2"), more(skip="0", limit="2")]


def test_regions_and_providers_are_public(site: Site) -> None:
    _, regions = call(site, "GET", "/v1/provider-regions")
    _, providers = call(site, "GET", "/v1/providers")
    _, one = call(site, "GET", "/v1/providers", addresses=providers[0]["owner"])

    assert {address for region in regions for address in region["providers"]} == {row["owner"] for row in providers}
    assert [providers[0]] == one


def test_what_a_transaction_takes_is_time_of_the_emulated_world(site: Site) -> None:
    site.world.time.set_speed(120)
    body = json.dumps({"data": {"sdl": SAMPLE, "deposit": 5}}).encode()
    delivery = site.visit(Request("POST", "/v1/deployments", {}, {"x-api-key": "ac.sk.test"}, body))

    assert 6 / 120 == delivery.delay_seconds
