"""Nosana, a market of GPU hosts on Solana. There are two ways to it, and the provider block says which is meant.

Its own API is in `nosana_deployments`, the sidecar of an inference platform in `nosana_sidecar`.
"""

from gpuplan.core.ports import Provider
from gpuplan.net.api import Api
from gpuplan.net.http_provider import http_type
from gpuplan.providers.nosana_bodies import NodeOptions
from gpuplan.providers.nosana_deployments import NosanaDeployments
from gpuplan.providers.nosana_sidecar import NosanaSidecar
from gpuplan.providers.nosana_tables import Flavour, Options, capabilities, defaults, profile


def open_account(api: Api, options: Options) -> Provider:
    return NosanaSidecar(api, options) if options.flavour is Flavour.SIDECAR else NosanaDeployments(api, options)


PROVIDER = http_type(
    name="nosana",
    title="Nosana",
    adapter=open_account,
    options=Options,
    capabilities=capabilities,
    profile=profile,
    node_options=NodeOptions,
    defaults=defaults,
)
