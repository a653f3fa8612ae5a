"""What is around instances in the emulated Alibaba Cloud: key pairs, vSwitches, security groups, who one is, and the
tables of what there is to rent.

Any well-formed id of a vSwitch or a security group is one that exists: a spec written for a real account can be
rehearsed. A vSwitch lies in the zone its id ends with, else in the first of the region.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal

from gpuplan.core.values import JsonValue
from gpuplan.emulators import alibaba_catalog as catalog
from gpuplan.emulators.alibaba_answers import (
    Asked,
    Refused,
    action,
    answer,
    pages_by_number,
    pages_by_token,
    show_tags,
    unfit,
)
from gpuplan.emulators.alibaba_signing import key_of, parameters
from gpuplan.emulators.http import Json, Request, Response, Routes
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import Thing

KEY = "ssh_key"
KEY_NAME = re.compile(r"[A-Za-z\u4e00-\u9fff][\w:-]{1,127}")
COMPANIONS = Routes()


def asked_of(request: Request) -> Asked:
    return Asked(parameters(request))


def region_of(asked: Asked) -> str:
    """Raises Refused."""
    region = asked.text("RegionId", required=True)
    if region not in catalog.REGIONS:
        raise Refused(404, "InvalidRegionId.NotFound", "The specified RegionId does not exist.")
    return region


def zone_of(vswitch: str, region: str) -> str:
    """Raises Refused for what is no vSwitch."""
    if not vswitch.startswith("vsw-") or "missing" in vswitch:
        raise Refused(404, "InvalidVSwitchId.NotFound", "The specified virtual switch is not found.")
    zones = catalog.zones(region)
    return next((zone for zone in zones if vswitch.endswith(zone)), zones[0])


def vpc_of(id: str, region: str) -> str:
    """Of a vSwitch or a security group."""
    return f"vpc-{region}-other" if "-other" in id else f"vpc-{region}"


@action(COMPANIONS, "GetCallerIdentity")
def identity(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    digest = hashlib.sha256(key_of(request).encode()).hexdigest()
    account = str(10**15 + int(digest[:12], 16) % 10**15)
    return answer(
        site,
        IdentityType="Account",
        AccountId=account,
        PrincipalId=account,
        UserId=account,
        Arn=f"acs:ram::{account}:root",
    )


@action(COMPANIONS, "ImportKeyPair")
def import_key(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    asked = asked_of(request)
    region, name = region_of(asked), asked.text("KeyPairName", required=True)
    body = asked.text("PublicKeyBody", required=True)
    if not KEY_NAME.fullmatch(name):
        raise unfit("KeyPairName")
    words = body.split()
    if len(words) < 2 or words[0] not in str(site.knob("key_types")).split():
        raise Refused(400, "InvalidPublicKeyBody.Malformed", "The specified PublicKeyBody is malformed.")
    if _key(site, request.account, region, name):
        raise Refused(400, "KeyPair.AlreadyExist", "The key pair already exist.")
    if len(site.things(KEY, request.account)) >= site.count("key_limit"):
        raise Refused(400, "QuotaExceed.KeyPair", "The key pair quota exceeds.")
    print_ = hashlib.md5(base64.b64decode(words[1] + "=="), usedforsecurity=False).hexdigest()
    shown: Json = {"KeyPairName": name, "KeyPairFingerPrint": print_, "PublicKey": body, "ResourceGroupId": ""}
    hidden: Json = {"region": region, "tags": dict[str, JsonValue](asked.tags())}
    # Names are unique in an account's region alone.
    id = site.uuid() if site.world.find(name) else name
    site.add(KEY, id, request.account, shown, name=name, hidden=hidden)
    return answer(site, KeyPairName=name, KeyPairFingerPrint=print_)


@action(COMPANIONS, "DescribeKeyPairs")
def list_keys(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    asked = asked_of(request)
    region, name = region_of(asked), asked.text("KeyPairName")
    pattern = re.compile(re.escape(name).replace(r"\*", ".*")) if name else None
    keys = [
        key
        for key in site.listed(KEY, request.account)
        if key.hidden["region"] == region and (pattern is None or pattern.fullmatch(key.name))
    ]
    return pages_by_number(
        site, asked, keys, "KeyPairs", "KeyPair", lambda key: _show_key(key, asked.flag("IncludePublicKey"))
    )


@action(COMPANIONS, "DeleteKeyPairs")
def delete_keys(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    asked = asked_of(request)
    region = region_of(asked)
    for name in asked.array("KeyPairNames") or []:
        if key := _key(site, request.account, region, name):
            site.remove(key)
    return answer(site)


@action(COMPANIONS, "DescribeVSwitches")
def list_vswitches(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    asked = asked_of(request)
    region = region_of(asked)
    wanted = asked.text("VSwitchId")
    names = wanted.split(",") if wanted else [f"vsw-{zone}" for zone in catalog.zones(region)]
    known = [name for name in names if name.startswith("vsw-") and "missing" not in name]
    return pages_by_number(
        site,
        asked,
        known,
        "VSwitches",
        "VSwitch",
        lambda name: {
            "VSwitchId": name,
            "VpcId": vpc_of(name, region),
            "ZoneId": zone_of(name, region),
            "CidrBlock": "10.1.0.0/16",
            "Status": "Available",
            "AvailableIpAddressCount": 60000,
        },
    )


@action(COMPANIONS, "DescribeRegions")
def regions(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    shown: JsonValue = [catalog.show_region(region) for region in catalog.REGIONS]
    return answer(site, Regions={"Region": shown})


@action(COMPANIONS, "DescribeZones")
def zones(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    region = region_of(asked_of(request))
    types: JsonValue = {"InstanceTypes": list(catalog.TYPES)}
    shown: JsonValue = [
        {"ZoneId": zone, "LocalName": zone, "AvailableInstanceTypes": types} for zone in catalog.zones(region)
    ]
    return answer(site, Zones={"Zone": shown})


@action(COMPANIONS, "DescribeImages")
def images(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    asked = asked_of(request)
    region_of(asked)
    owner, family, id = asked.text("ImageOwnerAlias"), asked.text("ImageFamily"), asked.text("ImageId")
    found = [
        image
        for image in catalog.IMAGES
        if owner in ("", image["ImageOwnerAlias"])
        and family in ("", image["ImageFamily"])
        and (not id or image["ImageId"] in id.split(","))
    ]
    return pages_by_number(site, asked, found, "Images", "Image", lambda image: image, most=100)


@action(COMPANIONS, "DescribeInstanceTypes")
def types(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    asked = asked_of(request)
    wanted, families = asked.texts("InstanceTypes"), asked.texts("InstanceTypeFamilies")
    family, least, spec = asked.text("InstanceTypeFamily"), asked.number("MinimumGPUAmount"), asked.text("GPUSpec")
    found = [
        sold
        for sold in catalog.TYPES.values()
        if (not wanted or sold.id in wanted)
        and (not families or sold.family in families)
        and family in ("", sold.family)
        and sold.gpus >= least
        and spec.lower() in sold.spec.lower()
    ]
    return pages_by_token(site, asked, found, "InstanceType", catalog.show_type)


@action(COMPANIONS, "DescribeAvailableResource")
def available(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    asked = asked_of(request)
    region = region_of(asked)
    if asked.text("DestinationResource", required=True) != "InstanceType":
        raise unfit("DestinationResource")
    type, zone = asked.text("InstanceType"), asked.text("ZoneId")
    told: list[JsonValue] = []
    for sold in catalog.TYPES.values():
        if type in ("", sold.id):
            status, category = catalog.stock(site, sold, region)
            told.append({"Value": sold.id, "Status": status, "StatusCategory": category})
    resources: JsonValue = {
        "AvailableResource": [{"Type": "InstanceType", "SupportedResources": {"SupportedResource": told}}]
    }
    shown: JsonValue = [
        {
            "ZoneId": each,
            "RegionId": region,
            "Status": "Available",
            "StatusCategory": "WithStock",
            "AvailableResources": resources,
        }
        for each in catalog.zones(region)
        if zone in ("", each)
    ]
    return answer(site, AvailableZones={"AvailableZone": shown}) if told else answer(site)


@action(COMPANIONS, "DescribePrice")
def price(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    asked = asked_of(request)
    region, sold = region_of(asked), catalog.TYPES.get(asked.text("InstanceType", required=True))
    if sold is None:
        raise Refused(400, "InvalidInstanceType.ValueNotSupported", "The specified InstanceType is not supported.")
    is_spot = asked.text("SpotStrategy") not in ("", "NoSpot")
    hourly = catalog.spot_price(site, sold, region) if is_spot else catalog.price(site, sold, region)
    amount = hourly * _rate(site)
    return answer(
        site,
        PriceInfo=catalog.show_price(sold, amount, asked.number("SystemDisk.Size", 40), str(site.knob("currency"))),
    )


@action(COMPANIONS, "DescribeSpotPriceHistory")
def spot_prices(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    asked = asked_of(request)
    region, sold = region_of(asked), catalog.TYPES.get(asked.text("InstanceType", required=True))
    asked.text("NetworkType", required=True)
    if sold is None or sold.has_local_disks:
        return answer(site, Currency=site.knob("currency"), NextOffset=0, SpotPrices={"SpotPriceType": []})
    rate = _rate(site)
    entries: list[JsonValue] = [
        {
            "InstanceType": sold.id,
            "ZoneId": zone,
            "NetworkType": "vpc",
            "IoOptimized": "optimized",
            "SpotPrice": float(catalog.spot_price(site, sold, region) * rate * share),
            "OriginPrice": float(catalog.price(site, sold, region) * rate),
            "Timestamp": (site.now - timedelta(hours=hours)).strftime("%Y-%m-%dT%H:00:00Z"),
        }
        for zone in catalog.zones(region)
        for hours, share in ((2, Decimal("1.2")), (1, Decimal(1)))
    ]
    return answer(site, Currency=site.knob("currency"), NextOffset=0, SpotPrices={"SpotPriceType": entries})


def key_text(site: Site, account: str, region: str, name: str) -> str:
    """The public key of a pair; empty without one. Raises Refused."""
    if not name:
        return ""
    key = _key(site, account, region, name)
    if key is None:
        raise Refused(404, "InvalidKeyPair.NotFound", "The specified KeyPairName does not exist.")
    return str(key.body["PublicKey"])


def _key(site: Site, account: str, region: str, name: str) -> Thing | None:
    found = site.named(KEY, name, account)
    return found if found is not None and found.hidden["region"] == region else None


def _show_key(key: Thing, has_body: bool) -> JsonValue:
    tags = key.hidden["tags"]
    assert isinstance(tags, dict)
    shown = {name: value for name, value in key.body.items() if has_body or name != "PublicKey"}
    return {**shown, "CreationTime": key.created_at.strftime("%Y-%m-%dT%H:%MZ"), "Tags": show_tags(tags)}


def _rate(site: Site) -> Decimal:
    """Of the account's currency to the dollar."""
    return Decimal("7.1") if site.knob("currency") == "CNY" else Decimal(1)
