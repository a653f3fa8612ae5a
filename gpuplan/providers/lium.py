"""Lium, the GPU market of Bittensor's subnet 51. Two APIs go by that name, and the provider block says which is meant.

Pods at lium.io are in `lium_pods`, rentals at api.lium.ai in `lium_rentals`.
"""

from gpuplan.core.ports import Provider
from gpuplan.net.api import Api
from gpuplan.net.http_provider import http_type
from gpuplan.providers.lium_bodies import NodeOptions
from gpuplan.providers.lium_pods import LiumPods
from gpuplan.providers.lium_rentals import LiumRentals
from gpuplan.providers.lium_tables import Flavour, Options, capabilities, defaults, profile


def open_account(api: Api, options: Options) -> Provider:
    return LiumRentals(api, options) if options.api is Flavour.RENTALS else LiumPods(api, options)


PROVIDER = http_type(
    name="lium",
    title="Lium",
    adapter=open_account,
    options=Options,
    capabilities=capabilities,
    profile=profile,
    node_options=NodeOptions,
    defaults=defaults,
)
