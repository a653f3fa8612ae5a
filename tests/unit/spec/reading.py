"""Specs as tests write them: a text in, a configuration or findings out.

`cloud` creates nodes and keeps SSH keys; `pool` creates whole clusters and keeps none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field

from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import Configuration, Kind
from gpuplan.core.diagnostics import Diagnostic
from gpuplan.core.errors import SpecError
from gpuplan.core.ports import OpenContext, Provider, ProviderType
from gpuplan.core.values import Attrs
from gpuplan.spec.load import Given, Inputs, SourceFile, load
from gpuplan.testing.memory import MemoryWorld, memory_provider
from gpuplan.testing.memory_capabilities import memory_capabilities

HEAD = "version: 1\nproject: test\nproviders: {cloud: {}, pool: {}}\n"


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")

    regions: list[str] = []
    api_key: str | None = None
    retries: int = Field(3, ge=0)


class NodeOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")

    bid: float | None = None


class VolumeOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")

    iops: int | None = None


class NetworkOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")

    vlan: int | None = None


def _open(options: BaseModel, context: OpenContext) -> Provider:
    return memory_provider(MemoryWorld(context.clock), context.block.name)


def _nodes(options: BaseModel) -> Capabilities:
    return memory_capabilities()


def _groups(options: BaseModel) -> Capabilities:
    kinds = memory_capabilities(groups=True).kinds
    return memory_capabilities(groups=True, kinds={k: v for k, v in kinds.items() if k is not Kind.SSH_KEY})


CLOUD = ProviderType(
    "cloud",
    "A cloud",
    Options,
    _nodes,
    _open,
    NodeOptions,
    volume_options=VolumeOptions,
    network_options=NetworkOptions,
)
POOL = ProviderType("pool", "A pool", Options, _groups, _open)
TYPES = {"cloud": CLOUD, "pool": POOL, "other": replace(CLOUD, name="other")}


def inputs(
    files: Mapping[str, bytes] | None = None,
    *,
    given: Mapping[str, Given] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Inputs:
    """What a spec may look at: these files, these variables, this environment."""

    def read_file(path: str, asking: str) -> bytes:
        found = (files or {}).get(path)
        if found is None:
            raise FileNotFoundError(2, "No such file or directory", path)
        return found

    return Inputs("default", environ or {}, given or {}, read_file, TYPES)


def read(
    text: str,
    *more: str,
    files: Mapping[str, bytes] | None = None,
    variables: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Configuration:
    """The configuration of a spec; `more` are files laid over it, `variables` are given as `--var` gives them."""
    sources = [SourceFile(f"gpuplan{index or ''}.yaml", part.encode()) for index, part in enumerate((text, *more))]
    given = {name: Given(value, "--var", True) for name, value in (variables or {}).items()}
    return load(sources, inputs(files, given=given, environ=environ))


def findings(text: str, *more: str, variables: Mapping[str, str] | None = None) -> Sequence[Diagnostic]:
    """What is wrong with a spec."""
    try:
        read(text, *more, variables=variables)
    except SpecError as error:
        return error.diagnostics
    return ()


def ids(text: str, *more: str, variables: Mapping[str, str] | None = None) -> list[str]:
    return [finding.id for finding in findings(text, *more, variables=variables)]


def attrs(configuration: Configuration, address: str) -> Attrs:
    """The attributes of the first candidate of an instance."""
    found = {str(known): desired for known, desired in configuration.instances.items()}
    return found[address].candidates[0].attrs


def addresses(configuration: Configuration) -> list[str]:
    return [str(address) for address in configuration.instances]
