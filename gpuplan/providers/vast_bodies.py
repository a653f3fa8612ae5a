"""What is asked of Vast.ai: the bodies of requests. Pure; `vast` sends them."""

import base64
import gzip
import re
import shlex
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict

from gpuplan.core.kinds import NodeAttrs, SshKeyAttrs, plain
from gpuplan.core.marks import Mark
from gpuplan.core.offers import Offer, OfferQuery
from gpuplan.core.ports import Links, Want
from gpuplan.core.values import Ref
from gpuplan.net.marks import is_mark_tag, to_name, to_tags, to_text
from gpuplan.providers.vast_wire import Body

LABEL_LENGTH, VOLUME_NAME_LENGTH, ONSTART_LENGTH = 256, 64, 4048
DEFAULT_IMAGE = "vastai/base-image:@vastai-automatic-tag"
RUNTYPES: Mapping[str, str] = {
    "ssh": "ssh_direc ssh_proxy",
    "ssh_proxy": "ssh_proxy",
    "jupyter": "jupyter_direc ssh_direc ssh_proxy",
    "args": "args",
}
"""In the words the official client sends; those of the documentation are others."""


class Unfit(ValueError):
    """A want that Vast has no way to carry out; the message says why."""


class NodeOptions(BaseModel):
    """`options:` of a cluster at Vast."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    runtype: Literal["ssh", "ssh_proxy", "jupyter", "args"] = "ssh"
    template: str | None = None


class Terms(BaseModel):
    """What every machine must have to be looked at: a part of the provider block."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    verified: bool
    min_reliability: float
    min_ports: int
    min_inet_down: float
    min_cuda: float | None
    min_days: float
    disk_gb: int


def to_search(query: OfferQuery, names: Sequence[str], terms: Terms, *, is_bid: bool) -> Body:
    """Filters of a search, cheapest first. Without the disk in it the order of prices would mislead."""
    disk_gb = query.disk_gb or terms.disk_gb
    body: Body = {
        "rentable": {"eq": True},
        "rented": {"eq": False},
        "external": {"eq": False},
        "reliability": {"gte": terms.min_reliability},
        "direct_port_count": {"gte": terms.min_ports},
        "inet_down": {"gte": terms.min_inet_down},
        "duration": {"gte": terms.min_days * 86400},
        "disk_space": {"gte": disk_gb},
        "type": "bid" if is_bid else "on-demand",
        "order": [["dph_total", "asc"]],
        "limit": 64,
        "allocated_storage": disk_gb,
    }
    if terms.verified:
        body["verified"] = {"eq": True}
    if terms.min_cuda:
        body["cuda_max_good"] = {"gte": terms.min_cuda}
    if names:
        body["gpu_name"] = {"in": list(names)}
    if query.gpu_counts:
        body["num_gpus"] = {"in": list(query.gpu_counts)}
    if query.regions:
        body["geolocation"] = {"in": list(query.regions)}
    return body


def to_launch(want: Want, mark: Mark, offer: Offer, links: Links, *, disk_gb: int, login: str | None) -> Body:
    """Raises Unfit."""
    asked = NodeAttrs.of(want.attrs)
    options = NodeOptions.model_validate(asked.options)
    body: Body = {
        "client_id": "me",
        "disk": asked.disk_gb or disk_gb,
        "label": to_label(want.name, mark, asked.labels),
        "runtype": RUNTYPES[options.runtype],
        "env": to_env(asked),
        "target_state": "running",
        # Otherwise an offer that is gone makes an instance that stands still, and costs its disk.
        "cancel_unavail": True,
    }
    if asked.image or not options.template:
        body["image"] = asked.image or DEFAULT_IMAGE
    if options.template:
        body["template_hash_id"] = options.template
    if login:
        body["image_login"] = login
    if options.runtype == "args":
        if asked.ssh_keys or asked.user_data:
            raise Unfit("with `runtype: args` the image runs as it is: no SSH keys, no user_data")
        if asked.command:
            body["args"] = _words(asked.command)
    else:
        body["onstart"] = to_onstart(asked, links)
    if (bid := to_bid(asked, offer)) is not None:
        body["price"] = bid
    return body


def to_bid(asked: NodeAttrs, offer: Offer) -> float | None:
    """USD per hour for the whole slice; None rents on demand, at the full price."""
    bid = offer.facts.get("bid")
    if not isinstance(bid, (int, float)):
        return None
    most = asked.spot.max_price if asked.spot and asked.spot.max_price else None
    return float(min(Decimal(str(bid)), Decimal(str(most)))) if most else float(bid)


def to_env(asked: NodeAttrs) -> Body:
    """Variables, and options of docker by key: always an object, a text is ignored by some servers."""
    ports = [
        f"-p {port.number}:{port.number}" + ("/udp" if port.protocol == "udp" else "")
        for port in asked.ports
        if port.number != 22
    ]
    volumes = [f"-v V.{id_of(mount.volume)}:{mount.mount}" for mount in asked.volumes]
    return {**{name: plain(text) for name, text in asked.env.items()}, **dict.fromkeys([*ports, *volumes], "1")}


def to_onstart(asked: NodeAttrs, links: Links) -> str:
    """What runs at every start of the container, in the place of the image's entrypoint: all of it can be repeated.

    Raises Unfit when it is too long even when packed.
    """
    lines = ["touch ~/.no_auto_tmux", "env > /etc/environment"]
    if keys := public_keys(asked, links):
        lines += ["mkdir -p ~/.ssh", "touch ~/.ssh/authorized_keys"]
    for key in keys:
        text = shlex.quote(key)
        lines.append(f"grep -qxF {text} ~/.ssh/authorized_keys || echo {text} >> ~/.ssh/authorized_keys")
    if asked.user_data:
        lines.append(plain(asked.user_data))
    if asked.command:
        lines.append(shlex.join(_words(asked.command)))
    script = "\n".join(lines) + "\n"
    if len(script) <= ONSTART_LENGTH:
        return script
    packed = base64.b64encode(gzip.compress(script.encode(), mtime=0)).decode()
    line = f"echo {packed} | base64 -d | gunzip | bash"
    if len(line) > ONSTART_LENGTH:
        raise Unfit(f"user_data, command and keys take {len(line)} characters, there is room for {ONSTART_LENGTH}")
    return line


def to_label(name: str, mark: Mark, labels: Mapping[str, str]) -> str:
    """A name, the mark and the labels as words of one text. Raises Unfit when they do not fit."""
    words = _label_words(labels)
    text = " ".join([to_text(name, mark, limit=LABEL_LENGTH - len(words) - 1), words]).rstrip()
    if len(text) > LABEL_LENGTH:
        raise Unfit(f"name and labels take {len(text)} characters, there is room for {LABEL_LENGTH}")
    return text


def relabelled(label: str, labels: Mapping[str, str]) -> str:
    """A label with other labels of the user: name and mark stay. Raises Unfit."""
    name, *words = label.split(" ")
    kept = [name, *(word for word in words if is_mark_tag(word))]
    text = " ".join([*kept, _label_words(labels)]).rstrip()
    if len(text) > LABEL_LENGTH:
        raise Unfit(f"name and labels take {len(text)} characters, there is room for {LABEL_LENGTH}")
    return text


def to_key(want: Want, mark: Mark) -> Body:
    return {"ssh_key": " ".join([SshKeyAttrs.of(want.attrs).public_key, *to_tags(mark)])}


def to_volume_name(want: Want, mark: Mark) -> str:
    return re.sub("[^A-Za-z0-9]", "_", to_name(want.name, mark, limit=VOLUME_NAME_LENGTH))


def machines_of(asked: NodeAttrs, links: Links) -> set[str]:
    """The machines that hold the volumes of a node, as far as their records tell."""
    records = [links.get(mount.volume.address) for mount in asked.volumes if isinstance(mount.volume, Ref)]
    return {str(record.attrs["zone"]) for record in records if record and record.attrs.get("zone")}


def public_keys(asked: NodeAttrs, links: Links) -> list[str]:
    """The keys to let in. Those of the account that are known by id alone Vast lets in by itself."""
    keys: list[str] = []
    for key in asked.ssh_keys:
        record = links.get(key.address) if isinstance(key, Ref) else None
        text = record.attrs.get("public_key") if record else key
        if isinstance(text, str) and " " in text:
            keys.append(text)
    return keys


def id_of(reference: Ref | str) -> str:
    return (reference.remote_id or "") if isinstance(reference, Ref) else reference


def _label_words(labels: Mapping[str, str]) -> str:
    return " ".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in labels.items())


def _words(command: str | Sequence[str]) -> list[str]:
    return ["sh", "-c", command] if isinstance(command, str) else list(command)
