"""Akash, a market of containers on a chain of its own. There are two ways to it, and the provider block says which.

The Console's API is in `akash_console`, a sidecar that speaks to the chain in `akash_sidecar`.
"""

from gpuplan.core.ports import Provider
from gpuplan.net.api import Api
from gpuplan.net.http_provider import http_type
from gpuplan.providers.akash_console import AkashConsole
from gpuplan.providers.akash_sdl import NodeOptions
from gpuplan.providers.akash_sidecar import AkashSidecar
from gpuplan.providers.akash_tables import Flavour, Options, capabilities, defaults, profile


def open_account(api: Api, options: Options) -> Provider:
    return AkashSidecar(api, options) if options.flavour is Flavour.SIDECAR else AkashConsole(api, options)


PROVIDER = http_type(
    name="akash",
    title="Akash Network",
    adapter=open_account,
    options=Options,
    capabilities=capabilities,
    profile=profile,
    node_options=NodeOptions,
    defaults=defaults,
)
