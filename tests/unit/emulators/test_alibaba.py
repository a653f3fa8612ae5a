"""The emulated Alibaba Cloud by itself: who may ask, and what its actions are like."""

import base64
import hashlib
import hmac
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import pytest

from gpuplan.emulators.catalog import emulator_types
from gpuplan.emulators.desk import Desk
from gpuplan.emulators.http import Request, Response
from gpuplan.emulators.world import Shelf, World
from gpuplan.testing.clock import FakeClock

REGION = "ap-southeast-1"
IMAGE = "ubuntu_22_04_x64_20G_alibase_20250917.vhd"
ORDER = {
    "RegionId": REGION,
    "InstanceType": "ecs.gn7i-c8g1.2xlarge",
    "ImageId": IMAGE,
    "SecurityGroupId": "sg-team",
    "VSwitchId": f"vsw-{REGION}b",
}
VECTORS = {
    "GET": (
        "OLeaidS1JvxuMvnyHOwuJ+uX5qY=",
        {
            "Action": "DescribeRegions",
            "Format": "XML",
            "SignatureNonce": "3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf",
            "Timestamp": "2016-02-23T12:46:24Z",
        },
    ),
    "POST": (
        "b62cntkLglHLWpvJLjXdQ+ZFUZk=",
        {
            "RegionId": "cn-hangzhou",
            "InstanceType": "ecs.gn6i-c4g1.xlarge",
            "InstanceName": "gpu node/1*~",
            "Tag.1.Key": "gpuplan:id",
            "Tag.1.Value": "a b+c",
            "ClientToken": "123e4567-e89b-12d3-a456-426655440000",
            "Action": "RunInstances",
            "Format": "JSON",
            "SignatureNonce": "9b7a44b0-3be1-11e9-9e3c-9801a7a2cb57",
            "Timestamp": "2026-01-02T03:04:05Z",
        },
    ),
}
"""Published by the vendor, and made by its own signer."""


class Client:
    """Signs its parameters, as the older clients do."""

    def __init__(self, key: str = "ana") -> None:
        self.clock = FakeClock()
        self.world = World(self.clock)
        self._desk = Desk(self.world, emulator_types(["alibaba"]))
        self._key = key
        self._nonces = 0

    def send(self, action: str, *, key: str | None = None, secret: str | None = None, **more: Any) -> Response:
        self._nonces += 1
        key = self._key if key is None else key
        told = {name: str(value) for name, value in more.items() if value is not None}
        told |= {"Action": action, "Format": "JSON", "AccessKeyId": key}
        told.setdefault("Version", "2014-05-26")
        told.setdefault("SignatureNonce", str(self._nonces))
        told.setdefault("Timestamp", f"{self.clock.now():%Y-%m-%dT%H:%M:%SZ}")
        query = "&".join(f"{quote(k, safe='-_.~')}={quote(v, safe='-_.~')}" for k, v in sorted(told.items()))
        text = f"POST&%2F&{quote(query, safe='-_.~')}"
        digest = hmac.new(f"{secret or key}&".encode(), text.encode(), hashlib.sha1).digest()
        return self.deliver("POST", {**told, "Signature": base64.b64encode(digest).decode()})

    def deliver(self, method: str, told: dict[str, str]) -> Response:
        query = {name: [value] for name, value in parse_qsl(urlencode(told), keep_blank_values=True)}
        return self._desk.answer(Request(method, "/alibaba/", query)).response

    def ask(self, action: str, **more: Any) -> Any:
        response = self.send(action, **more)
        assert 200 == response.status, response.body
        return response.body

    def code(self, action: str, **more: Any) -> str:
        """Of the error it answers with."""
        response = self.send(action, **more)
        assert response.status >= 400
        assert isinstance(response.body, dict)
        return str(response.body["Code"])

    def run(self, **more: Any) -> list[str]:
        ids: list[str] = self.ask("RunInstances", **{**ORDER, **more})["InstanceIdSets"]["InstanceIdSet"]
        return ids

    def instances(self, **more: Any) -> list[dict[str, Any]]:
        seen: list[dict[str, Any]] = self.ask("DescribeInstances", RegionId=REGION, **more)["Instances"]["Instance"]
        return seen


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_signatures_of_version_1_fit_the_vectors(client: Client, method: str) -> None:
    client.world.knobs["alibaba"]["clock_window_seconds"] = 1e9
    signature, told = VECTORS[method]
    told = {**told, "Version": "2014-05-26", "AccessKeyId": "testid"}
    told |= {"SignatureMethod": "HMAC-SHA1", "SignatureVersion": "1.0"}
    wrong, right = (
        str(client.deliver(method, {**told, "Signature": each}).body) for each in (signature[::-1], signature)
    )

    assert "SignatureDoesNotMatch" in wrong
    assert "SignatureDoesNotMatch" not in right


def test_a_nonce_counts_once_and_a_time_for_a_quarter_of_an_hour(client: Client) -> None:
    client.ask("DescribeRegions", SignatureNonce="one")

    assert "SignatureNonceUsed" == client.code("DescribeRegions", SignatureNonce="one")
    assert "InvalidTimeStamp.Expired" == client.code("DescribeRegions", Timestamp="2025-12-31T23:30:00Z")
    assert "IllegalTimestamp" == client.code("DescribeRegions", Timestamp="yesterday")
    client.ask("DescribeRegions", Timestamp="2025-12-31T23:50:00Z")


def test_an_unknown_key_and_a_wrong_secret_are_told_apart(client: Client) -> None:
    assert 404 == client.send("DescribeRegions", key="wrong").status
    assert "InvalidAccessKeyId.NotFound" == client.code("DescribeRegions", key="wrong")
    assert "SignatureDoesNotMatch" == client.code("DescribeRegions", secret="not hers")
    assert "InvalidAction.NotFound" == client.code("DescribeMoon")


def test_an_instance_goes_through_its_states(client: Client) -> None:
    (id,) = client.run()
    states = []
    for seconds in (0, 10, 40):
        client.clock.advance(seconds)
        states.append(client.instances()[0]["Status"])
    client.ask("StopInstance", InstanceId=id, StoppedMode="StopCharging")
    states.append(client.instances()[0]["Status"])
    client.clock.advance(30)
    states.append(client.instances()[0]["Status"])
    client.ask("DeleteInstance", InstanceId=id)
    states.append(client.instances()[0]["Status"])
    client.clock.advance(60)

    assert ["Pending", "Starting", "Running", "Stopping", "Stopped", "Stopping"] == states
    assert [] == client.instances()
    assert "InvalidInstanceId.NotFound" == client.code("StopInstance", InstanceId=id)


def test_a_delete_is_refused_while_it_starts_and_without_force_while_it_runs(client: Client) -> None:
    (id,) = client.run()
    assert "IncorrectInstanceStatus" == client.code("DeleteInstance", InstanceId=id, Force="true")
    client.clock.advance(60)
    assert "IncorrectInstanceStatus" == client.code("DeleteInstance", InstanceId=id)

    client.ask("DeleteInstance", InstanceId=id, Force="True")


def test_a_token_makes_the_same_once_and_nothing_else(client: Client) -> None:
    first = client.run(ClientToken="once")

    assert first == client.run(ClientToken="once")
    assert "IdempotentParameterMismatch" == client.code("RunInstances", **ORDER, ClientToken="once", HostName="other")
    assert 1 == len(client.instances())


def test_several_at_once_are_all_or_none(client: Client) -> None:
    client.world.shelves["alibaba", "A10", REGION] = Shelf(available=2)

    assert "OperationDenied.NoStock" == client.code("RunInstances", **ORDER, Amount=3)
    assert [] == client.instances()
    assert 2 == len(client.run(Amount=2))


def test_a_page_has_ten_to_a_hundred_instances(client: Client) -> None:
    client.run(Amount=100)
    client.run(Amount=5)
    listings = [client.ask("DescribeInstances", RegionId=REGION, MaxResults=n) for n in (None, 3, 50, 1000)]

    assert [10, 10, 50, 100] == [len(each["Instances"]["Instance"]) for each in listings]
    assert [True] * 4 == [bool(each["NextToken"]) for each in listings]
    last = client.ask("DescribeInstances", RegionId=REGION, MaxResults=100, NextToken=listings[-1]["NextToken"])
    assert (5, "") == (len(last["Instances"]["Instance"]), last["NextToken"])


def test_filters_are_joined_by_and_and_an_empty_list_of_ids_matches_nothing(client: Client) -> None:
    tags = {"Tag.1.Key": "team", "Tag.1.Value": "a", "Tag.2.Key": "tier", "Tag.2.Value": "gold"}
    client.run(**tags, InstanceName="head-0")
    client.run(**{"Tag.1.Key": "team", "Tag.1.Value": "a"}, InstanceName="worker-0")

    assert 2 == len(client.instances(**{"Tag.1.Key": "team"}))
    assert ["head-0"] == [each["InstanceName"] for each in client.instances(**tags)]
    assert ["worker-0"] == [each["InstanceName"] for each in client.instances(InstanceName="worker-*")]
    assert [] == client.instances(InstanceIds="[]")
    assert [] == client.ask("DescribeInstances", RegionId="cn-beijing")["Instances"]["Instance"]


def test_a_key_without_permission_sees_nothing_and_a_dry_run_says_so(client: Client) -> None:
    client.run()
    assert "DryRunOperation" == client.code("DescribeInstances", RegionId=REGION, DryRun="true")
    client.world.knobs["alibaba"]["permitted"] = False

    assert [] == client.instances()
    assert "Forbidden.RAM" == client.code("DescribeInstances", RegionId=REGION, DryRun="true")


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"RegionId": "moon-1"}, "InvalidRegionId.NotFound"),
        ({"InstanceType": "ecs.nothing.large"}, "InvalidInstanceType.ValueNotSupported"),
        ({"ImageId": "ubuntu_16_04.vhd"}, "InvalidImageId.NotFound"),
        ({"SecurityGroupId": "sg-missing"}, "InvalidSecurityGroupId.NotFound"),
        ({"SecurityGroupIds.1": "sg-b"}, "MissingParameter.SecurityGroupId"),
        ({"VSwitchId": "vsw-missing"}, "InvalidVSwitchId.NotFound"),
        ({"VSwitchId": None}, "MissingParameter.VSwitchId"),
        ({"ZoneId": f"{REGION}a"}, "InvalidParameter.Mismatch"),
        ({"InstanceName": "0"}, "InvalidInstanceName.Malformed"),
        ({"KeyPairName": "nobody"}, "InvalidKeyPair.NotFound"),
        ({"UserData": "?"}, "InvalidUserData.Base64FormatInvalid"),
        ({"UserData": base64.b64encode(b"x" * 40000).decode()}, "InvalidUserData.SizeExceeded"),
        ({"SpotStrategy": "Cheap"}, "InvalidParameter.SpotStrategy"),
        (
            {"SpotStrategy": "SpotWithPriceLimit", "SpotPriceLimit": "0.01"},
            "OperationDenied.SpotPriceLowerThanPublicPrice",
        ),
        ({"Tag.1.Key": "acs:mine", "Tag.1.Value": "x"}, "InvalidTagKey.Malformed"),
        ({"Amount": "many"}, "InvalidParameter.Amount"),
    ],
)
def test_what_cannot_be_made_is_refused_by_its_code(client: Client, more: dict[str, Any], code: str) -> None:
    assert code == client.code("RunInstances", **{**ORDER, **more})
    assert [] == client.instances()


def test_an_economical_stop_is_free_and_gives_the_hardware_back(client: Client) -> None:
    client.world.shelves["alibaba", "A10", REGION] = Shelf(available=1)
    (id,) = client.run()
    client.clock.advance(3600)
    client.ask("StopInstance", InstanceId=id, StoppedMode="StopCharging")
    client.clock.advance(36000)
    (thing,) = client.world.ledger

    assert "1.90" == f"{thing.cost(client.clock.now()):.2f}"
    client.run()
    assert "OperationDenied.NoStock" == client.code("StartInstance", InstanceId=id)


def test_several_instances_are_stopped_in_one_call(client: Client) -> None:
    ids = client.run(Amount=2)
    client.clock.advance(60)
    told = client.ask("StopInstances", RegionId=REGION, **{f"InstanceId.{n}": id for n, id in enumerate(ids, 1)})

    responses = told["InstanceResponses"]["InstanceResponse"]
    assert [("Running", "Stopping")] * 2 == [(each["PreviousStatus"], each["CurrentStatus"]) for each in responses]


def test_a_public_key_must_be_rsa_and_its_name_new(client: Client) -> None:
    key = {"RegionId": REGION, "KeyPairName": "team", "PublicKeyBody": "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC7 me"}
    client.ask("ImportKeyPair", **key)

    assert "KeyPair.AlreadyExist" == client.code("ImportKeyPair", **key)
    other = {**key, "KeyPairName": "other", "PublicKeyBody": "ssh-ed25519 AAAA me"}
    assert "InvalidPublicKeyBody.Malformed" == client.code("ImportKeyPair", **other)
    client.ask("ImportKeyPair", **{**key, "RegionId": "cn-beijing"})
    client.ask("DeleteKeyPairs", RegionId=REGION, KeyPairNames='["team", "never was"]')
    assert [] == client.ask("DescribeKeyPairs", RegionId=REGION)["KeyPairs"]["KeyPair"]


def test_what_is_told_of_stock_and_prices_follows_the_shelves(client: Client) -> None:
    client.world.shelves["alibaba", "T4", ""] = Shelf(available=0)
    wanted = {"RegionId": REGION, "DestinationResource": "InstanceType", "InstanceType": "ecs.gn6i-c4g1.xlarge"}
    zone = client.ask("DescribeAvailableResource", **wanted)["AvailableZones"]["AvailableZone"][0]
    (resource,) = zone["AvailableResources"]["AvailableResource"][0]["SupportedResources"]["SupportedResource"]
    price = client.ask("DescribePrice", RegionId=REGION, InstanceType="ecs.gn6i-c4g1.xlarge")["PriceInfo"]["Price"]

    assert ("SoldOut", "WithoutStock") == (resource["Status"], resource["StatusCategory"])
    assert [("instanceType", 1.17), ("systemDisk", 0.008)] == [
        (each["Resource"], each["TradePrice"]) for each in price["DetailInfos"]["DetailInfo"]
    ]
    assert "AvailableZones" not in client.ask("DescribeAvailableResource", **{**wanted, "InstanceType": "ecs.nothing"})


def test_an_image_of_any_later_release_exists(client: Client) -> None:
    client.run(ImageId="ubuntu_24_04_x64_20G_alibase_20261020.vhd")
    client.run(ImageId="m-of-the-team")

    assert "InvalidImageId.NotFound" == client.code(
        "RunInstances", **{**ORDER, "ImageId": "ubuntu_22_04_x64_20G_alibase_20200101.vhd"}
    )


def test_an_action_of_another_product_has_another_version(client: Client) -> None:
    assert "InvalidVersion" == client.code("GetCallerIdentity")
    mine, yours = (
        client.ask("GetCallerIdentity", Version="2015-04-01", key=key)["AccountId"] for key in ("ana", "bob")
    )

    assert mine != yours
