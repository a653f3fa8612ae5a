"""The machines of an `ssh` block: its options, its `hosts.yaml`, and how each machine is logged in to. Used by `ssh`.

`~/.ssh/config` counts here, as nowhere else: whoever lists machines by the names they have there means those.
"""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from gpuplan.core.gpus import GpuRequest, canonical_gpu, nearest_gpus
from gpuplan.core.units import parse_duration

REGION = "on-prem"
DEFAULT_FILE = "hosts.yaml"
_SPECIAL = frozenset("/ \t\n")


def _canonical(name: object) -> str | None:
    if name is None or name == "":
        return None
    known = canonical_gpu(str(name))
    if known is None:
        raise ValueError(f"`{name}` is no GPU gpuplan knows; near to it: {', '.join(nearest_gpus(str(name)))}")
    return known


def _seconds(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _jump(value: object) -> object:
    """`me@login:22`, several with commas between: the first is the one that is reached directly."""
    if not isinstance(value, str):
        return value
    *before, last = value.split(",")
    user, _, place = last.strip().rpartition("@")
    host, port = split_port(place)
    jump = {"host": host, "user": user or None, "port": port, "jump": ",".join(before) or None}
    return {name: given for name, given in jump.items() if given is not None}


class Login(BaseModel):
    """A machine to log in to. What is not said here, `~/.ssh/config` may say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(
        min_length=1,
        validation_alias=AliasChoices("host", "ssh_host", "hostname", "ip"),
        description="address, or a name that `~/.ssh/config` has; also `ssh_host`",
    )
    port: int | None = Field(
        None, ge=1, le=65535, validation_alias=AliasChoices("port", "ssh_port"), description="also `ssh_port`"
    )
    user: str | None = Field(None, validation_alias=AliasChoices("user", "ssh_user"), description="also `ssh_user`")
    key: str | None = Field(
        None,
        validation_alias=AliasChoices("key", "ssh_key", "identity_file"),
        description="file of the private key; also `ssh_key`",
    )
    jump: Annotated["Login | None", BeforeValidator(_jump)] = Field(
        None, description="`USER@HOST:PORT` to jump over, several with commas, or a mapping as this one"
    )
    host_key: str | None = Field(None, description="its host key, as `ssh-ed25519 AAAA...`: no other is accepted")


class Host(Login):
    """One machine of the inventory. It also reads the words of `hosts.yaml` that gpuplan itself writes."""

    name: str = Field("", description="what it is called here; its address when absent")
    gpu_type: Annotated[str | None, BeforeValidator(_canonical)] = Field(
        None, description="counts only where neither nvidia-smi nor rocm-smi is there to tell"
    )
    gpu_count: int = Field(1, ge=0, description="how many of `gpu_type`")
    is_ephemeral: bool = Field(False, description="may be taken away: claimed only for clusters with `spot`")
    internal_ip: str | None = Field(None, description="its address among the others")
    region: str | None = Field(None, description="that of the block when absent")
    price_per_hour: Decimal | None = Field(None, ge=0, description="USD for the whole machine")
    directory: str | None = Field(None, description="that of the block when absent")
    provider: str | None = Field(None, description="where it was rented; only shown")

    @property
    def called(self) -> str:
        return self.name or self.host

    @property
    def declared(self) -> GpuRequest | None:
        return GpuRequest(self.gpu_type, self.gpu_count) if self.gpu_type and self.gpu_count else None

    @field_validator("name", "host")
    @classmethod
    def _is_a_word(cls, text: str) -> str:
        if _SPECIAL & set(text):
            raise ValueError(f"`{text}` cannot have a slash or a blank in it")
        return text


def _host(value: object) -> object:
    return {"host": value} if isinstance(value, str) else value


Hosts = tuple[Annotated[Host, BeforeValidator(_host)], ...]


class HostsFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    hosts: Hosts


class Options(BaseModel):
    """The provider block of type `ssh`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hosts: Hosts | None = Field(None, description="the machines: addresses, names of `~/.ssh/config`, or mappings")
    inventory: str | None = Field(None, description=f"a file with `hosts`; `{DEFAULT_FILE}` where the block has none")
    user: str | None = Field(None, description="for hosts that name none")
    port: int | None = Field(None, ge=1, le=65535, description="for hosts that name none")
    key: str | None = Field(None, description="for hosts that name none")
    jump: Annotated[Login | None, BeforeValidator(_jump)] = Field(None, description="for hosts that name none")
    directory: str | None = Field(
        None, description="where claims and nodes lie on a host: /var/lib/gpuplan for root, else `.gpuplan` at home"
    )
    region: str = Field(REGION, description="what `region` of a cluster is compared with")
    host_keys: Literal["accept-new", "strict"] = Field(
        "accept-new", description="`strict`: no first contact with a host whose key is not on record"
    )
    ssh_config: str | bool = Field(True, description="whether `~/.ssh/config` counts, or which file instead")
    known_hosts: str = Field("~/.ssh/known_hosts", description="where keys of hosts are looked up that are new here")
    shared: bool = Field(False, description="also take hosts on which others compute or that a scheduler has")
    grace: Annotated[float, BeforeValidator(_seconds)] = Field(
        10, ge=0, le=300, description="how long a command may take to end after TERM, before it is killed"
    )


class Mistaken(ValueError):
    """An inventory that cannot be used; the message says why."""


def hosts_of(options: Options, environ: Mapping[str, str], folder: str = "") -> Mapping[str, Host]:
    """The machines by name, with what the block says for all of them. `folder` is where the inventory is looked for.
    Blocks, briefly. Raises Mistaken."""
    listed = [*(options.hosts or ()), *_from_file(options, environ, folder)]
    found: dict[str, Host] = {}
    for host in listed:
        if host.called in found:
            raise Mistaken(f"the inventory has two hosts called `{host.called}`")
        given = {
            name: getattr(host, name) if getattr(host, name) is not None else getattr(options, name)
            for name in ("user", "port", "key", "jump", "directory", "region")
        }
        found[host.called] = host.model_copy(update=given)
    if not found:
        raise Mistaken("the inventory has no hosts")
    return found


def _from_file(options: Options, environ: Mapping[str, str], folder: str) -> Hosts:
    if options.inventory is None and options.hosts is not None:
        return ()
    import yaml
    from pydantic import ValidationError

    path = folder / path_of(options.inventory or DEFAULT_FILE, environ)
    try:
        content: Any = yaml.safe_load(path.read_text("utf-8"))
        return HostsFile.model_validate(content if isinstance(content, dict) else {"hosts": content}).hosts
    except OSError as exc:
        raise Mistaken(f"the inventory `{path}` cannot be read: {str(exc.strerror).lower()}") from exc
    except yaml.YAMLError as exc:
        raise Mistaken(f"the inventory `{path}` is no YAML: {' '.join(str(exc).split())}") from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise Mistaken(f"the inventory `{path}`, at `{place}`: {first['msg'].removeprefix('Value error, ')}") from exc


def path_of(written: str, environ: Mapping[str, str]) -> Path:
    home = environ.get("HOME") or str(Path.home())
    return Path(home, written[2:]) if written.startswith("~/") else Path(written)


def split_port(place: str) -> tuple[str, int | None]:
    """`host`, `host:22`, `[fe80::1]:22`, or a bare address of IPv6. Raises ValueError."""
    if place.startswith("["):
        host, _, rest = place[1:].partition("]")
        return host, _port(rest.removeprefix(":"))
    if place.count(":") == 1:
        host, _, rest = place.partition(":")
        return host, _port(rest)
    return place, None


def _port(text: str) -> int | None:
    if text and not text.isdigit():
        raise ValueError(f"`{text}` is no port")
    return int(text) if text else None
