"""What is asked of Alibaba Cloud: the parameters of requests. Pure; `alibaba` sends them."""

import base64
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from gpuplan.core.kinds import NodeAttrs, SshKeyAttrs, plain
from gpuplan.core.marks import Mark
from gpuplan.core.offers import Pricing
from gpuplan.core.ports import Want
from gpuplan.core.values import JsonValue, Ref
from gpuplan.net.cloud_init import first_boot
from gpuplan.net.marks import to_labels

Body: TypeAlias = dict[str, JsonValue]

DEFAULT_IMAGE = "ubuntu_22_04_x64_20G_alibase_*.vhd"
USER_DATA_BYTES = 16 * 1024
MOST_LABELS = 15
"""Twenty tags, five of which are the mark."""
CONTAINERS = """\
#!/bin/sh
# Docker and the NVIDIA runtime, as far as the image does not bring them.
exec >/var/log/gpuplan-containers.log 2>&1
export DEBIAN_FRONTEND=noninteractive
fetch() { curl -fsSL --retry 5 "$1"; }
if ! command -v docker >/dev/null; then fetch https://get.docker.com | sh -s -- --mirror Aliyun; fi
systemctl enable --now docker
lspci 2>/dev/null | grep -qi nvidia || exit 0
if ! command -v nvidia-smi >/dev/null && command -v apt-get >/dev/null; then
  apt-get update && apt-get install -y ubuntu-drivers-common && ubuntu-drivers install --gpgpu
  apt-get install -y "nvidia-utils-$(modinfo -F version nvidia | cut -d. -f1)-server"
  modprobe nvidia
fi
if ! command -v nvidia-ctk >/dev/null; then
  packages=https://nvidia.github.io/libnvidia-container
  if command -v apt-get >/dev/null; then
    key=/usr/share/keyrings/nvidia-container-toolkit.gpg
    fetch $packages/gpgkey | gpg --dearmor --yes -o $key
    echo "deb [signed-by=$key] $packages/stable/deb/\\$(ARCH) /" >/etc/apt/sources.list.d/nvidia-container-toolkit.list
    apt-get update && apt-get install -y nvidia-container-toolkit
  else
    fetch $packages/stable/rpm/nvidia-container-toolkit.repo >/etc/yum.repos.d/nvidia-container-toolkit.repo
    yum install -y nvidia-container-toolkit
  fi
fi
nvidia-ctk runtime configure --runtime=docker --set-as-default && systemctl restart docker
"""


class NodeOptions(BaseModel):
    """`options:` of a cluster at Alibaba Cloud, in its own words."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    security_group_id: str | None = Field(None, description="instead of the block's")
    vswitch_id: str | None = Field(None, description="instead of the block's")
    docker: bool = Field(True, description="install Docker and the NVIDIA runtime at the first boot")
    internet_mbps: int = Field(100, ge=0, le=100, description="outgoing bandwidth; 0 means no public address")
    disk_category: str = Field("cloud_essd", description="of the system disk")
    disk_level: Literal["PL0", "PL1", "PL2", "PL3"] | None = Field(None, description="performance of an ESSD")
    spot_hours: Literal[0, 1] = Field(1, description="hours in which a spot instance is not taken back")
    ram_role: str | None = Field(None, description="role the instance acts under")


def to_instance(want: Want, mark: Mark, place: Mapping[str, str], image: Body, usd_per_cny: Decimal) -> Body:
    """Parameters of RunInstances; `place` has vSwitch and security group, `image` says which one.

    Raises ValueError for what Alibaba Cloud cannot take.
    """
    asked, options = NodeAttrs.of(want.attrs), options_of(want)
    instance_type = want.offer.ref if want.offer else asked.instance_type
    if instance_type is None:
        raise ValueError("without an offer it needs `instance_type`")
    if len(asked.labels) > MOST_LABELS:
        raise ValueError(f"an instance takes {MOST_LABELS} labels, this one has {len(asked.labels)}")
    return {
        **place,
        **image,
        "InstanceType": instance_type,
        "InstanceName": want.name,
        "HostName": want.name,
        "Amount": 1,
        "InstanceChargeType": "PostPaid",
        "InternetChargeType": "PayByTraffic",
        "InternetMaxBandwidthOut": options.internet_mbps,
        "SystemDisk": {
            "Category": options.disk_category,
            "Size": asked.disk_gb,
            "PerformanceLevel": options.disk_level,
        },
        "KeyPairName": key_pair(asked),
        "RamRoleName": options.ram_role,
        "UserData": _user_data(asked, options),
        "Tag": to_tags({**asked.labels, **to_labels(mark)}),
        **_spot(want, asked, options, usd_per_cny),
    }


def to_key(want: Want, mark: Mark) -> Body:
    body = SshKeyAttrs.of(want.attrs).public_key
    return {"KeyPairName": want.name, "PublicKeyBody": body, "Tag": to_tags(to_labels(mark))}


def to_tags(tags: Mapping[str, str]) -> list[JsonValue]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def options_of(want: Want) -> NodeOptions:
    return NodeOptions.model_validate(NodeAttrs.of(want.attrs).options)


def key_pair(asked: NodeAttrs) -> str | None:
    """The one key pair an instance takes. Raises ValueError for several; public keys go in as user data."""
    names = [name for name in _keys(asked.ssh_keys) if " " not in name]
    if len(names) > 1:
        raise ValueError("an instance takes one key pair: write further ones as public keys")
    return names[0].rpartition("/")[2] if names else None


def own_id(remote_id: str) -> str:
    """As Alibaba Cloud knows it, without the region."""
    return remote_id.rpartition("/")[2]


def _keys(references: Iterable[Ref | str]) -> list[str]:
    return [(item.remote_id or "") if isinstance(item, Ref) else item for item in references]


def _spot(want: Want, asked: NodeAttrs, options: NodeOptions, usd_per_cny: Decimal) -> Body:
    """How it is paid: as the offer says, else as the spec does. Limits are in the currency of the account."""
    is_spot = want.offer.pricing is Pricing.SPOT if want.offer else asked.spot is not None
    if not is_spot:
        return {"SpotStrategy": "NoSpot"}
    terms: Body = {"SpotDuration": options.spot_hours, "SpotInterruptionBehavior": "Terminate"}
    if asked.spot is None or asked.spot.max_price is None:
        return {**terms, "SpotStrategy": "SpotAsPriceGo"}
    in_cny = want.offer is not None and want.offer.facts.get("currency") == "CNY"
    limit = Decimal(str(asked.spot.max_price)) / (usd_per_cny if in_cny else 1)
    return {**terms, "SpotStrategy": "SpotWithPriceLimit", "SpotPriceLimit": str(round(limit, 3))}


def _user_data(asked: NodeAttrs, options: NodeOptions) -> str | None:
    told = first_boot(
        env={name: plain(text) for name, text in asked.env.items()},
        keys=[key for key in _keys(asked.ssh_keys) if " " in key],
        scripts=[CONTAINERS] if options.docker else [],
        own=plain(asked.user_data) if asked.user_data else None,
    )
    if told is None:
        return None
    content = told.encode()
    if len(content) > USER_DATA_BYTES:
        raise ValueError(f"its user data has {len(content)} bytes, and {USER_DATA_BYTES} go through")
    return base64.b64encode(content).decode()
