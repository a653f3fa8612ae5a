"""What `alibaba` makes of documented samples, where it finds its keys, and what it asks for."""

import base64
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.errors import NoCredentials
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Status
from gpuplan.core.offers import Offer, Pricing, Stock
from gpuplan.core.ports import Want
from gpuplan.core.secret import Secret
from gpuplan.core.values import Value
from gpuplan.net.credentials import find_credentials
from gpuplan.net.marks import to_labels
from gpuplan.providers import alibaba_bodies as bodies
from gpuplan.providers.alibaba_tables import Options, capabilities, defaults, profile
from gpuplan.providers.alibaba_wire import (
    Availability,
    Board,
    Instance,
    InstanceType,
    KeyPair,
    Price,
    SpotPrices,
)

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
MARK = Mark("abcdefghijklmnopqrst", "llama", "default", "lineage", Address("clusters", "train", None, 0))
TYPE = "ecs.gn7i-c8g1.2xlarge"
ZONE = "ap-southeast-1b"
INSTANCE: dict[str, Any] = {
    "InstanceId": "i-t4nexample0000000001",
    "InstanceName": "gpuplan-train-0",
    "HostName": "train-0",
    "Status": "Running",
    "RegionId": "ap-southeast-1",
    "ZoneId": ZONE,
    "InstanceType": TYPE,
    "GPUAmount": 1,
    "GPUSpec": "NVIDIA A10",
    "ImageId": "ubuntu_22_04_x64_20G_alibase_20250917.vhd",
    "CreationTime": "2026-11-20T09:30Z",
    "AutoReleaseTime": "",
    "SpotStrategy": "NoSpot",
    "StoppedMode": "Not-applicable",
    "DeletionProtection": False,
    "KeyPairName": "gpuplan-key",
    "PublicIpAddress": {"IpAddress": ["47.241.0.10"]},
    "EipAddress": {"AllocationId": "", "IpAddress": "", "InternetChargeType": ""},
    "VpcAttributes": {
        "VpcId": "vpc-t4n1examplevpc001",
        "VSwitchId": "vsw-t4n1examplevsw001",
        "PrivateIpAddress": {"IpAddress": ["10.0.0.12"]},
    },
    "Tags": {"Tag": [{"TagKey": "team", "TagValue": "a"}, {"TagKey": "acs:ecs:x", "TagValue": "y"}]},
    "OperationLocks": {"LockReason": []},
}
AVAILABLE: dict[str, Any] = {
    "AvailableZones": {
        "AvailableZone": [
            {
                "ZoneId": ZONE,
                "AvailableResources": {
                    "AvailableResource": [
                        {
                            "Type": "InstanceType",
                            "SupportedResources": {
                                "SupportedResource": [
                                    {"Value": TYPE, "Status": "Available", "StatusCategory": "WithStock"},
                                    {"Value": "ecs.gn7-c12g1.3xlarge", "StatusCategory": "WithoutStock"},
                                ]
                            },
                        }
                    ]
                },
            }
        ]
    }
}
PRICE: dict[str, Any] = {
    "PriceInfo": {
        "Price": {
            "TradePrice": 1.94,
            "Currency": "USD",
            "DetailInfos": {
                "DetailInfo": [
                    {"Resource": "instanceType", "TradePrice": 1.9},
                    {"Resource": "systemDisk", "TradePrice": 0.04},
                ]
            },
        }
    }
}
SPOT: dict[str, Any] = {
    "Currency": "USD",
    "SpotPrices": {
        "SpotPriceType": [
            {"ZoneId": ZONE, "SpotPrice": 0.57, "Timestamp": "2026-11-20T09:00:00Z"},
            {"ZoneId": ZONE, "SpotPrice": 0.9, "Timestamp": "2026-11-20T08:00:00Z"},
        ]
    },
}


def seen(**more: Any) -> Any:
    return Instance.model_validate({**INSTANCE, **more}).to_observed(NOW)


def locked(*reasons: str) -> dict[str, Any]:
    return {"Status": "Stopped", "OperationLocks": {"LockReason": [{"LockReason": reason} for reason in reasons]}}


def want(offer: Offer | None = None, **attrs: Value) -> Want:
    given = {"instance_type": TYPE, **attrs}
    return Want(Address("clusters", "train", None, 0), Kind.NODE, given, "train-0", offer)


def body(asked: Want) -> Any:
    place = {"VSwitchId": "vsw-1", "SecurityGroupId": "sg-1"}
    return bodies.to_instance(asked, MARK, place, {"ImageId": "m-1"}, Decimal("0.14"))


def user_data(asked: Want) -> str:
    return base64.b64decode(body(asked)["UserData"]).decode()


def offer(**more: Any) -> Offer:
    given = {"provider": "alibaba", "ref": TYPE, "region": "ap-southeast-1", "gpu": "A10", "gpu_count": 1}
    return Offer(**{**given, "pricing": Pricing.ON_DEMAND, "price_per_hour": Decimal("1.9"), "seen_at": NOW, **more})


SPOT_IN_YUAN = offer(pricing=Pricing.SPOT, facts={"currency": "CNY"})


def test_an_instance_is_told_in_our_words() -> None:
    found = seen()

    assert ("ap-southeast-1/i-t4nexample0000000001", Status.RUNNING) == (found.remote_id, found.status)
    assert {
        "region": "ap-southeast-1",
        "zone": ZONE,
        "instance_type": TYPE,
        "labels": {"team": "a"},
    } == found.attrs
    assert ("47.241.0.10", "10.0.0.12") == (found.facts["public_ip"], found.facts["private_ip"])
    assert found.expires_at is None


def test_a_wrapper_may_be_missing_and_an_elastic_address_counts() -> None:
    bare = {name: None for name in ("PublicIpAddress", "EipAddress", "VpcAttributes", "Tags", "OperationLocks")}
    assert seen(**bare).facts["public_ip"] is None

    elastic = seen(PublicIpAddress={"IpAddress": []}, EipAddress={"IpAddress": "47.0.0.1"})
    assert "47.0.0.1" == elastic.facts["public_ip"]


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"Status": "Pending"}, Status.PENDING),
        ({"Status": "Starting"}, Status.STARTING),
        ({"Status": "Stopping"}, Status.STOPPING),
        ({"Status": "Stopped"}, Status.STOPPED),
        ({"Status": "Stopped", "CreationTime": "2026-11-20T11:59Z"}, Status.STARTING),
        ({"Status": "Stopped", "CreationTime": "2026-11-20T11:59Z", "StoppedMode": "StopCharging"}, Status.STOPPED),
        ({"Status": "Quantum"}, Status.UNKNOWN),
        (locked("Recycling"), Status.TERMINATING),
        (locked("financial"), Status.STOPPED),
    ],
)
def test_every_status_has_its_word(more: dict[str, Any], status: Status) -> None:
    assert status is seen(**more).status


def test_a_lock_is_told() -> None:
    assert "locked: financial, security" == seen(**locked("financial", "security")).detail


def test_a_release_time_ends_the_instance() -> None:
    assert NOW + timedelta(hours=6) == seen(AutoReleaseTime="2026-11-20T18:00Z").expires_at


def test_the_mark_comes_back_from_tags() -> None:
    tags = [{"TagKey": key, "TagValue": value} for key, value in to_labels(MARK).items()]

    assert MARK == seen(Tags={"Tag": tags}).mark
    assert MARK == KeyPair.model_validate({"KeyPairName": "team", "Tags": {"Tag": tags}}).to_observed("cn-beijing").mark


@pytest.mark.parametrize(
    ("family", "spec", "memory", "gpu"),
    [
        ("ecs.gn6v", "NVIDIA V100", 16, "V100-16GB-SXM"),
        ("ecs.gn7e", "NVIDIA A100", 80, "A100-80GB-SXM"),
        ("ecs.gn9x", "NVIDIA A100", 40, "A100-40GB"),
        ("ecs.gn9x", "NVidia T4", 16, "T4"),
        ("ecs.gn9x", "NVIDIA H20", 96, "H20-96GB"),
        ("ecs.gn9x", "NVIDIA X1", 96, ""),
        ("ecs.vgn6i-vws", "NVIDIA T4", 4, ""),
    ],
)
def test_gpus_have_canonical_names(family: str, spec: str, memory: float, gpu: str) -> None:
    told = {"InstanceTypeId": f"{family}.large", "InstanceTypeFamily": family, "GPUAmount": 1}
    sold = InstanceType.model_validate({**told, "GPUSpec": spec, "GPUMemorySize": memory})

    assert (gpu, int(bool(gpu))) == (sold.gpu, sold.gpu_count)


def test_offers_have_the_price_of_the_instance_and_the_newest_of_spot() -> None:
    told = {"InstanceTypeId": TYPE, "InstanceTypeFamily": "ecs.gn7i", "GPUAmount": 1, "GPUSpec": "NVIDIA A10"}
    stocks = Availability.model_validate(AVAILABLE).stocks()
    board = Board(
        "alibaba",
        "ap-southeast-1",
        NOW,
        {Pricing.ON_DEMAND: stocks, Pricing.SPOT: stocks},
        {TYPE: Price.model_validate(PRICE)},
        {TYPE: SpotPrices.model_validate(SPOT)},
        Decimal("0.14"),
    )
    offers = board.offers([InstanceType.model_validate(told)], [])

    assert {Pricing.ON_DEMAND: Decimal("1.9"), Pricing.SPOT: Decimal("0.57")} == {
        each.pricing: each.price_per_hour for each in offers
    }
    assert {("A10", 1, ZONE, Stock.SOME)} == {(o.gpu, o.gpu_count, o.zone, o.stock) for o in offers}
    assert [] == board.offers([InstanceType.model_validate(told)], ["ap-southeast-1a"])
    assert {} == Availability.model_validate({"RequestId": "1"}).stocks()


def test_an_instance_is_asked_for_with_its_mark_and_its_own_name() -> None:
    asked = body(want(labels={"team": "a"}, disk_gb=200))
    tags = {tag["Key"]: tag["Value"] for tag in asked["Tag"]}

    assert (TYPE, "train-0", "m-1", "vsw-1", 1) == tuple(
        asked[name] for name in ("InstanceType", "InstanceName", "ImageId", "VSwitchId", "Amount")
    )
    assert ("a", MARK.token) == (tags["team"], tags["gpuplan-token"])
    assert {"Category": "cloud_essd", "Size": 200, "PerformanceLevel": None} == asked["SystemDisk"]
    assert "NoSpot" == asked["SpotStrategy"]


@pytest.mark.parametrize(
    ("asked", "strategy", "limit"),
    [
        (want(spot=True), "SpotAsPriceGo", None),
        (want(spot={"max_price": 1.5}), "SpotWithPriceLimit", "1.500"),
        (want(SPOT_IN_YUAN, spot={"max_price": 1.4}), "SpotWithPriceLimit", "10.000"),
        (want(offer(), spot={"fallback": True}), "NoSpot", None),
    ],
)
def test_the_offer_decides_how_it_is_paid(asked: Want, strategy: str, limit: str | None) -> None:
    told = body(asked)

    assert (strategy, limit) == (told["SpotStrategy"], told.get("SpotPriceLimit"))


def test_user_data_installs_containers_unless_it_is_not_to() -> None:
    told = user_data(want(env={"TOKEN": Secret("x")}, ssh_keys=["team", "ssh-ed25519 AAAA me"]))

    assert "nvidia-ctk runtime configure" in told
    assert "ssh-ed25519 AAAA me" in told
    assert "TOKEN=" in told
    assert body(want(options={"docker": False}))["UserData"] is None


def test_what_alibaba_cannot_take_is_refused() -> None:
    with pytest.raises(ValueError, match="16384 go through"):
        body(want(user_data="#!/bin/sh\n" + "x" * 20000))
    with pytest.raises(ValueError, match="one key pair"):
        body(want(ssh_keys=["cn-beijing/team", "cn-beijing/other"]))
    with pytest.raises(ValueError, match="15 labels"):
        body(want(labels={str(number): "x" for number in range(16)}))
    with pytest.raises(ValueError, match="`instance_type`"):
        body(want(instance_type=None))


def test_a_key_pair_is_named_without_its_region() -> None:
    assert "team" == body(want(ssh_keys=["cn-beijing/team"]))["KeyPairName"]


@pytest.mark.parametrize(
    ("region", "url"),
    [
        ("cn-hangzhou", "https://ecs-cn-hangzhou.aliyuncs.com"),
        ("eu-central-1", "https://ecs.eu-central-1.aliyuncs.com"),
    ],
)
def test_every_region_has_its_address(region: str, url: str) -> None:
    assert url == profile(Options(region_id=region)).hosts[""].url


def test_an_endpoint_stands_in_for_all_products() -> None:
    hosts = profile(Options(endpoint="http://127.0.0.1:1")).hosts

    assert {"http://127.0.0.1:1"} == {hosts[name].url for name in ("vpc", "sts")}


@pytest.mark.parametrize("variable", ["ALIBABA_CLOUD_REGION", "ALIBABA_CLOUD_REGION_ID", "ALICLOUD_REGION"])
def test_the_environment_gives_the_region(variable: str) -> None:
    assert {"region_id": "eu-central-1"} == defaults({variable: "eu-central-1"})
    assert {} == defaults({variable: ""})


def keys_in(environ: dict[str, str]) -> dict[str, str]:
    found = find_credentials(profile(Options()).credentials, {}, environ, provider="alibaba")
    return {name: secret.reveal() for name, secret in found.items()}


def test_keys_come_from_the_variables_of_the_sdk_and_of_terraform() -> None:
    sdk = {"ACCESS_KEY_ID": "a", "ACCESS_KEY_SECRET": "b", "SECURITY_TOKEN": "c"}
    expected = {"access_key_id": "a", "access_key_secret": "b", "security_token": "c"}

    assert expected == keys_in({f"ALIBABA_CLOUD_{name}": value for name, value in sdk.items()})
    assert {"access_key_id": "a", "access_key_secret": "b"} == keys_in(
        {"ALICLOUD_ACCESS_KEY": "a", "ALICLOUD_SECRET_KEY": "b"}
    )


def test_keys_come_from_the_current_profile_of_the_command_line(tmp_path: Path) -> None:
    profiles = [
        {"name": "other", "mode": "AK", "access_key_id": "x", "access_key_secret": "y"},
        {"name": "work", "mode": "AK", "access_key_id": "a", "access_key_secret": "b"},
    ]
    (tmp_path / ".aliyun").mkdir()
    (tmp_path / ".aliyun" / "config.json").write_text(json.dumps({"current": "work", "profiles": profiles}))

    assert {"access_key_id": "a", "access_key_secret": "b"} == keys_in({"HOME": str(tmp_path)})


def test_keys_of_another_mode_are_left_and_the_sdks_file_is_next(tmp_path: Path) -> None:
    profiles = [{"name": "work", "mode": "StsToken", "access_key_id": "x", "access_key_secret": "y"}]
    (tmp_path / ".aliyun").mkdir()
    (tmp_path / ".aliyun" / "config.json").write_text(json.dumps({"current": "work", "profiles": profiles}))
    with pytest.raises(NoCredentials):
        keys_in({"HOME": str(tmp_path)})

    (tmp_path / ".alibabacloud").mkdir()
    saved = "[default]\ntype = access_key\naccess_key_id = a\naccess_key_secret = b\n"
    (tmp_path / ".alibabacloud" / "credentials.ini").write_text(saved)
    assert {"access_key_id": "a", "access_key_secret": "b"} == keys_in({"HOME": str(tmp_path)})


def test_a_single_key_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="access_key_secret"):
        Options.model_validate({"key": "one"})


def test_a_vswitch_is_one_or_several_and_a_kept_node_goes_on_costing() -> None:
    assert ("vsw-1",) == Options.model_validate({"vswitch_id": "vsw-1"}).vswitches
    assert ("vsw-1", "vsw-2") == Options.model_validate({"vswitch_id": ["vsw-1", "vsw-2"]}).vswitches
    assert not capabilities(Options()).bills_when_stopped
    assert capabilities(Options(stopped_mode="KeepCharging")).bills_when_stopped
