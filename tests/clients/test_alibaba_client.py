"""Alibaba Cloud's own SDKs take the emulator for the real thing: the current one of Python, whose requests are signed
in their headers, its predecessor, and `@alicloud/pop-core` of Node.js, which sign their parameters.

The last comes from npm, into a folder of this run. On a machine without Node.js and npm, or that does not reach the
registry, the test says what it did not try.
"""

import asyncio
import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alibabacloud_ecs20140526 import models
from alibabacloud_ecs20140526.client import Client
from alibabacloud_tea_openapi.utils_models import Config
from aliyunsdkcore.acs_exception.exceptions import ServerException
from aliyunsdkcore.client import AcsClient
from aliyunsdkecs.request.v20140526.DeleteInstanceRequest import DeleteInstanceRequest
from aliyunsdkecs.request.v20140526.DescribeInstancesRequest import DescribeInstancesRequest
from aliyunsdkecs.request.v20140526.RunInstancesRequest import RunInstancesRequest
from darabonba.exceptions import DaraException

from gpuplan.emulators.catalog import emulator_types
from gpuplan.emulators.desk import Desk
from gpuplan.emulators.serve import serving
from gpuplan.emulators.world import World
from gpuplan.net.clock import SystemClock
from gpuplan.testing.emulated import Emulated

REGION = "ap-southeast-1"
TYPE = "ecs.gn7i-c8g1.2xlarge"
IMAGE = "ubuntu_22_04_x64_20G_alibase_20250917.vhd"
PUBLIC_KEY = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC7vbqajDhA team@example.com"
PLACE = {"RegionId": REGION, "SecurityGroupId": "sg-team", "VSwitchId": f"vsw-{REGION}b"}
PACKAGE = "@alicloud/pop-core@1.8"
RUNTIMES = ["node" if shutil.which("node") and shutil.which("npm") else "no Node.js"]
SCRIPT = """
const Core = require("@alicloud/pop-core");
const [endpoint, place] = [process.argv[2], JSON.parse(process.argv[3])];
const client = new Core({endpoint, apiVersion: "2014-05-26", accessKeyId: "ana", accessKeySecret: "ana"});
const post = (action, more) => client.request(action, {RegionId: place.RegionId, ...more}, {method: "POST"});
(async () => {
  const tag = {"Tag.1.Key": "team", "Tag.1.Value": "a b+c*"};
  const made = await post("RunInstances", {...place, ...tag, ClientToken: "once"});
  const listed = await post("DescribeInstances", {MaxResults: 10});
  const refused = await post("DeleteInstance", {InstanceId: "i-nobody"}).catch((error) => error.code);
  console.log(JSON.stringify({made: made.InstanceIdSets.InstanceIdSet, listed: listed.Instances.Instance, refused}));
})();
"""


@pytest.fixture
def emulator() -> Iterator[Emulated]:
    """At the root of a port, since these clients know no more than a host; and on real time, which they sign."""
    desk = Desk(World(SystemClock()), emulator_types(["alibaba"]), at_root="alibaba")
    with serving(desk) as url:
        yield Emulated(url, [])


def client_of(emulator: Emulated, key: str = "ana", secret: str = "ana") -> Client:
    host = emulator.url.removeprefix("http://")
    return Client(Config(access_key_id=key, access_key_secret=secret, region_id=REGION, endpoint=host, protocol="HTTP"))


def order(**more: Any) -> models.RunInstancesRequest:
    return models.RunInstancesRequest(
        region_id=REGION,
        instance_type=TYPE,
        image_id=IMAGE,
        security_group_id="sg-team",
        v_switch_id=f"vsw-{REGION}b",
        internet_max_bandwidth_out=50,
        **more,
    )


def test_an_instance_is_run_listed_tagged_stopped_and_deleted(emulator: Emulated) -> None:
    client = client_of(emulator)
    tags = [models.RunInstancesRequestTag(key="team", value="a b+c/*~")]
    made = client.run_instances(order(instance_name="head-0", tag=tags, client_token="once")).body
    (id,) = made.instance_id_sets.instance_id_set
    again = client.run_instances(order(instance_name="head-0", tag=tags, client_token="once")).body
    assert [id] == again.instance_id_sets.instance_id_set
    emulator.advance(60)
    listing = models.DescribeInstancesRequest(region_id=REGION, instance_ids=json.dumps([id]), max_results=100)
    (seen,) = client.describe_instances(listing).body.instances.instance

    assert ("head-0", "Running", 1, "NVIDIA A10") == (seen.instance_name, seen.status, seen.gpuamount, seen.gpuspec)
    assert ("team", "a b+c/*~") == (seen.tags.tag[0].tag_key, seen.tags.tag[0].tag_value)
    assert f"{REGION}b" == seen.zone_id
    assert seen.public_ip_address.ip_address

    client.stop_instance(models.StopInstanceRequest(instance_id=id, stopped_mode="StopCharging"))
    emulator.advance(60)
    (seen,) = client.describe_instances(listing).body.instances.instance
    assert ("Stopped", "StopCharging") == (seen.status, seen.stopped_mode)

    client.delete_instance(models.DeleteInstanceRequest(instance_id=id))
    emulator.advance(60)
    assert [] == client.describe_instances(listing).body.instances.instance


def test_a_large_user_data_goes_through_the_address(emulator: Emulated) -> None:
    content = base64.b64encode(b"#!/bin/sh\n" + b"# a comment\n" * 1200).decode()
    client_of(emulator).run_instances(order(user_data=content))

    assert 1 == len(emulator.living(kind="node"))


def test_the_asynchronous_client_lists_what_there_is_to_rent(emulator: Emulated) -> None:
    async def story() -> tuple[set[str], Any]:
        client = client_of(emulator)
        types = await client.describe_instance_types_async(
            models.DescribeInstanceTypesRequest(minimum_gpuamount=8, max_results=100)
        )
        stock = await client.describe_available_resource_async(
            models.DescribeAvailableResourceRequest(
                region_id=REGION, destination_resource="InstanceType", instance_type=TYPE
            )
        )
        return {each.instance_type_id for each in types.body.instance_types.instance_type}, stock.body.to_map()

    types, stock = asyncio.run(story())

    assert {"ecs.gn7e-c16g1.32xlarge", "ecs.gn7-c13g1.26xlarge"} <= types
    assert 3 == len(stock["AvailableZones"]["AvailableZone"])


def test_keys_are_imported_listed_and_deleted(emulator: Emulated) -> None:
    client = client_of(emulator)
    client.import_key_pair(
        models.ImportKeyPairRequest(region_id=REGION, key_pair_name="team", public_key_body=PUBLIC_KEY)
    )
    listing = models.DescribeKeyPairsRequest(region_id=REGION, include_public_key=True)
    (key,) = client.describe_key_pairs(listing).body.key_pairs.key_pair
    assert ("team", PUBLIC_KEY) == (key.key_pair_name, key.public_key)

    client.delete_key_pairs(models.DeleteKeyPairsRequest(region_id=REGION, key_pair_names=json.dumps(["team"])))
    assert [] == client.describe_key_pairs(listing).body.key_pairs.key_pair


@pytest.mark.parametrize(
    ("key", "secret", "code"),
    [("ana", "not hers", "SignatureDoesNotMatch"), ("wrong", "wrong", "InvalidAccessKeyId.NotFound")],
)
def test_a_wrong_key_is_told_by_its_code(emulator: Emulated, key: str, secret: str, code: str) -> None:
    with pytest.raises(DaraException) as caught:
        client_of(emulator, key, secret).describe_regions(models.DescribeRegionsRequest())

    assert code == caught.value.code


def test_the_older_client_signs_its_parameters(emulator: Emulated) -> None:
    client = AcsClient("ana", "ana", REGION)
    made = older(emulator, client, RunInstancesRequest(), InstanceType=TYPE, ImageId=IMAGE, **PLACE)
    (id,) = made["InstanceIdSets"]["InstanceIdSet"]
    emulator.advance(60)
    listed = older(emulator, client, DescribeInstancesRequest(), InstanceIds=json.dumps([id]), RegionId=REGION)
    assert ["Running"] == [each["Status"] for each in listed["Instances"]["Instance"]]

    older(emulator, client, DeleteInstanceRequest(), InstanceId=id, Force="true")
    with pytest.raises(ServerException) as caught:
        older(emulator, AcsClient("ana", "not hers", REGION), DescribeInstancesRequest(), RegionId=REGION)
    # It says so where the server has signed the same text as itself, with another key.
    assert "InvalidAccessKeySecret" == caught.value.get_error_code()


def older(emulator: Emulated, client: AcsClient, request: Any, **parameters: str) -> Any:
    request.set_endpoint(emulator.url.removeprefix("http://"))
    request.set_protocol_type("http")
    request.set_accept_format("json")
    for name, value in parameters.items():
        request.add_query_param(name, value)
    return json.loads(client.do_action_with_exception(request))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_client_of_node_signs_a_form(
    runtime: str, emulator: Emulated, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not installed(runtime, tmp_path):
        with capsys.disabled():
            print("\nalibaba: not judged by `@alicloud/pop-core`, which npm could not install")
        return
    (tmp_path / "script.js").write_text(SCRIPT)
    place = json.dumps({**PLACE, "InstanceType": TYPE, "ImageId": IMAGE})
    command = ["node", "script.js", emulator.url, place]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert "" == ended.stderr
    told = json.loads(ended.stdout)
    assert told["made"] == [each["InstanceId"] for each in told["listed"]]
    assert [{"TagKey": "team", "TagValue": "a b+c*"}] == told["listed"][0]["Tags"]["Tag"]
    assert "InvalidInstanceId.NotFound" == told["refused"]


def installed(runtime: str, folder: Path) -> bool:
    if runtime != "node":
        return False
    places = ["--prefix", str(folder), "--cache", str(folder / "cache")]
    command = ["npm", "install", PACKAGE, *places, "--no-audit", "--no-fund"]
    return subprocess.run(command, capture_output=True, timeout=100).returncode == 0
