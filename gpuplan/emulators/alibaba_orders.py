"""What RunInstances asks for, checked before anything is made."""

import base64
import binascii
import re
from decimal import Decimal

from gpuplan.core.encoding import encode_time
from gpuplan.core.values import JsonValue
from gpuplan.emulators import alibaba_catalog as catalog
from gpuplan.emulators.alibaba_answers import Asked, Refused, unfit
from gpuplan.emulators.alibaba_companions import key_text, region_of, vpc_of, zone_of
from gpuplan.emulators.http import Json, Request
from gpuplan.emulators.site import Site

INSTANCE_NAME = re.compile(r"[A-Za-z\u4e00-\u9fff][\w:.-]{1,127}")
RELEASED = re.compile(r"\w+_alibase_(?P<day>\d{8})\.vhd")
OLDEST_IMAGE = "20250601"
"""Older releases of Alibaba's own images are gone; newer ones exist, in the catalogue or not."""
USER_DATA_BYTES = 32 * 1024
STRATEGIES = ("NoSpot", "SpotWithPriceLimit", "SpotAsPriceGo")


def read_order(site: Site, request: Request, asked: Asked) -> tuple[str, catalog.InstanceType, str]:
    """Where, and of which type. Raises Refused."""
    region, sold = region_of(asked), catalog.TYPES.get(asked.text("InstanceType", required=True))
    if sold is None:
        raise Refused(400, "InvalidInstanceType.ValueNotSupported", "The specified InstanceType is not supported.")
    vswitch, groups = asked.text("VSwitchId", required=True), _groups(asked)
    zone = zone_of(vswitch, region)
    if asked.text("ZoneId") not in ("", zone) or any(
        vpc_of(group, region) != vpc_of(vswitch, region) for group in groups
    ):
        raise Refused(400, "InvalidParameter.Mismatch", "Specified security group and virtual switch do not match.")
    return region, sold, zone


def _groups(asked: Asked) -> list[str]:
    single, several = asked.text("SecurityGroupId"), asked.texts("SecurityGroupIds")
    if bool(single) == bool(several):
        raise Refused(400, "MissingParameter.SecurityGroupId", "Exactly one of the two is mandatory.")
    groups = several or [single]
    if any(not group.startswith("sg-") or "missing" in group for group in groups):
        raise Refused(404, "InvalidSecurityGroupId.NotFound", "The specified SecurityGroupId does not exist.")
    return groups


def new_instance(site: Site, request: Request, asked: Asked, region: str, zone: str) -> tuple[Json, Json]:
    """What is shown of a new instance, and what is not. Raises Refused."""
    name, strategy = asked.text("InstanceName"), asked.text("SpotStrategy") or "NoSpot"
    if name and not INSTANCE_NAME.fullmatch(name):
        raise Refused(400, "InvalidInstanceName.Malformed", "The specified InstanceName is wrongly formed.")
    if strategy not in STRATEGIES:
        raise unfit("SpotStrategy")
    _check_limit(site, asked, strategy, region)
    bandwidth, vswitch = asked.number("InternetMaxBandwidthOut"), asked.text("VSwitchId")
    shown: Json = {
        "HostName": asked.text("HostName") or name,
        "Description": asked.text("Description"),
        "RegionId": region,
        "ZoneId": zone,
        "InstanceType": asked.text("InstanceType"),
        "ImageId": _image(asked),
        "AutoReleaseTime": asked.text("AutoReleaseTime"),
        "SpotStrategy": strategy,
        "SpotPriceLimit": float(asked.text("SpotPriceLimit") or 0),
        "SpotDuration": asked.number("SpotDuration", 1) if strategy != "NoSpot" else 0,
        "KeyPairName": asked.text("KeyPairName"),
        "InternetChargeType": "PayByTraffic",
        "InternetMaxBandwidthOut": bandwidth,
        "InternetMaxBandwidthIn": max(bandwidth, 10),
    }
    hidden: Json = {
        "started_at": encode_time(site.now),
        "has_run": False,
        "tags": dict[str, JsonValue](asked.tags()),
        "user_data": _user_data(asked),
        "key_text": key_text(site, request.account, region, asked.text("KeyPairName")),
        "vswitch": vswitch,
        "vpc": vpc_of(vswitch, region),
        "groups": list[JsonValue](_groups(asked)),
        "is_protected": asked.flag("DeletionProtection"),
    }
    return shown, hidden


def _check_limit(site: Site, asked: Asked, strategy: str, region: str) -> None:
    limit = asked.text("SpotPriceLimit")
    if strategy == "SpotWithPriceLimit" and limit:
        lowest = catalog.spot_price(site, catalog.TYPES[asked.text("InstanceType")], region)
        if Decimal(limit) < lowest:
            text = "The specified spot price is lower than the public price."
            raise Refused(403, "OperationDenied.SpotPriceLowerThanPublicPrice", text)


def _image(asked: Asked) -> str:
    """Raises Refused for one that is not there, or not any more."""
    id, family = asked.text("ImageId"), asked.text("ImageFamily")
    fitting = [str(image["ImageId"]) for image in catalog.IMAGES if image["ImageFamily"] == family]
    if not id and fitting:
        return max(fitting)
    released = RELEASED.fullmatch(id)
    if id.startswith("m-") or (released is not None and released["day"] >= OLDEST_IMAGE):
        return id
    raise Refused(404, "InvalidImageId.NotFound", "The specified ImageId does not exist.")


def _user_data(asked: Asked) -> str:
    try:
        told = base64.b64decode(asked.text("UserData"), validate=True)
    except binascii.Error as exc:
        raise Refused(400, "InvalidUserData.Base64FormatInvalid", "The specified UserData is not base64.") from exc
    if len(told) > USER_DATA_BYTES:
        raise Refused(400, "InvalidUserData.SizeExceeded", "The specified UserData exceeds the maximum size.")
    return told.decode(errors="replace")
