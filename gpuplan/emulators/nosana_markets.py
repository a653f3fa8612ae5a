"""The emulated Nosana's markets: each is a pool of hosts with one kind of GPU, and one price."""

from collections.abc import Mapping
from dataclasses import dataclass

from gpuplan.emulators.http import Json, Request, Response, Routes
from gpuplan.emulators.nosana_answers import Refused
from gpuplan.emulators.site import Site

MARKETS = Routes()
REGION = "global"
FEE_PERCENT = 10


@dataclass(frozen=True, slots=True)
class Market:
    address: str
    slug: str
    name: str
    gpu: str
    """The canonical name."""
    told: str
    """How its hosts' driver calls it."""
    gpus: int
    memory_gb: int
    price: float
    """USD per hour to the host; the fee comes on top of it."""
    type: str = "PREMIUM"


MARKET_LIST = (
    Market("7AtiXMSH6R1jjBxrcYjehCkkSF7zvYWte63gwEDBcGHq", "nvidia-3060", "NVIDIA 3060", "RTX3060",
           "NVIDIA GeForce RTX 3060", 1, 12, 0.0436),
    Market("CA5pMpqkYFKtme7K31pNB1s62X2SdhEv1nN9RdxKCpuQ", "nvidia-3090", "NVIDIA 3090", "RTX3090",
           "NVIDIA GeForce RTX 3090", 1, 24, 0.1745),
    Market("97G9NnvBDQ2WpKu6fasoMsAKmfj63C9rhysJnkeWodAf", "nvidia-4090", "NVIDIA 4090", "RTX4090",
           "NVIDIA GeForce RTX 4090", 1, 24, 0.2909),
    Market("4uUT3u8TkDmeKqpVJ7FoYrzNTzPxAkFUPmBBmM1JZ4JF", "nvidia-4090-community", "NVIDIA 4090 Community", "RTX4090",
           "NVIDIA GeForce RTX 4090", 1, 24, 0.2182, "COMMUNITY"),
    Market("6Xt8hgVLLL2PSHC9NtJP8E8oTdA5ZJc95hZEnHcdqKqb", "nvidia-5090", "NVIDIA 5090", "RTX5090",
           "NVIDIA GeForce RTX 5090", 1, 32, 0.3636),
    Market("F3aGGSMb73XHbJbDXVbcXo7iYM9fyevvAZGQfwgrnWtB", "nvidia-a100-40gb", "NVIDIA A100 40GB", "A100-40GB-SXM",
           "NVIDIA A100-SXM4-40GB", 1, 40, 0.6),
    Market("GLJHzqRN9fKGBsvsFzmGnaQGknUtLN1dqaFR8n3YdM22", "nvidia-a100-80gb", "NVIDIA A100 80GB", "A100-80GB-SXM",
           "NVIDIA A100-SXM4-80GB", 1, 80, 0.9),
    Market("Crop49jpc7prcgAcS82WbWyGHwbN5GgDym3uFbxxCTZg", "nvidia-h100", "NVIDIA H100", "H100-80GB-SXM",
           "NVIDIA H100 80GB HBM3", 1, 80, 1.3636),
    Market("37VPcEfrA34vLRygFQd7bWiosBwv3a5jPv4hcXdumytC", "nvidia-8x-h100", "NVIDIA 8x H100", "H100-80GB-SXM",
           "NVIDIA H100 80GB HBM3", 8, 80, 18.2, "OTHER"),
    Market("6eMivCx49anWFYwNgg8KNJQfSJYB5nBdif8CK6z52dem", "nvidia-6000-ada", "NVIDIA 6000 Ada", "RTX6000Ada",
           "NVIDIA RTX 6000 Ada Generation", 1, 48, 0.45),
)  # fmt: skip


@MARKETS.on("GET", "/api/markets", is_open=True)
@MARKETS.on("GET", "/@markets/api/markets", is_open=True)
def list_markets(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    shown = [market for market in markets(site) if request.one("type") in ("", market.type)]
    return Response(200, [show_market(site, market) for market in shown])


@MARKETS.on("GET", "/api/markets/{id}", is_open=True)
def get_market(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    found = next((market for market in markets(site) if ids["id"] in (market.address, market.slug)), None)
    if found is None:
        raise Refused(404, "Market not found")
    return Response(200, show_market(site, found))


@MARKETS.on("GET", "/api/markets/{id}/required-resources", is_open=True)
def required_resources(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    return Response(200, {"required_images": [], "required_remote_resources": []})


def markets(site: Site) -> list[Market]:
    """Those that are not retired."""
    retired = str(site.knob("retired")).split(",")
    return [market for market in MARKET_LIST if market.slug not in retired]


def market_at(site: Site, address: str) -> Market | None:
    return next((market for market in markets(site) if market.address == address), None)


def reward(site: Site, market: Market) -> float:
    """USD per hour to the host."""
    price = site.shelf(market.gpu, REGION).price
    return market.price if price is None else float(price)


def price_of(site: Site, market: Market) -> float:
    """USD per hour, with the fee."""
    return reward(site, market) * (1 + FEE_PERCENT / 100)


def show_market(site: Site, market: Market) -> Json:
    usd = reward(site, market)
    other = f"{market.slug}-community" if market.type == "PREMIUM" else market.slug.removesuffix("-community")
    sibling = next((each.address for each in MARKET_LIST if each.slug == other and each is not market), None)
    return {
        "address": market.address,
        "slug": market.slug,
        "name": market.name,
        "sft": market.address[::-1],
        "type": market.type,
        # Sometimes a number, sometimes a text.
        "usd_reward_per_hour": usd if market.type == "PREMIUM" else str(usd),
        "nos_reward_per_second": round(usd / 3600 / 0.3, 8),
        "nos_job_price_per_second": round(usd * 1.1 / 3600 / 0.3, 8),
        "network_fee_percentage": FEE_PERCENT,
        "premium_community_relation": sibling,
        "gpu_types": [market.told],
        "required_images": [],
        "required_remote_resources": [],
        "nodes": [],
        "client": True,
        "lowest_vram": market.memory_gb,
        "max_usd_uptime_reward_per_day": 0,
    }
