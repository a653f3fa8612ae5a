"""What the emulated Hetzner Cloud sells: server types, locations, images. Prices are of the right order, no more."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from gpuplan.core.values import JsonValue
from gpuplan.emulators.http import Json
from gpuplan.emulators.site import Site

MONTH_HOURS = 624
"""A month costs no more than this many hours."""
IPV4_HOURLY = Decimal("0.0008")
VOLUME_GB_MONTH = Decimal("0.0440")
VAT = Decimal("1.19")
EUROPE = ("fsn1", "nbg1", "hel1")
ANYWHERE = (*EUROPE, "ash", "hil", "sin")


@dataclass(frozen=True, slots=True)
class ServerType:
    """`hourly` in the project's currency. Stock is counted under the name."""

    id: int
    name: str
    cores: int
    memory_gb: int
    disk_gb: int
    hourly: str
    locations: tuple[str, ...]
    gone_since: str = ""
    """When a deprecated type could last be had."""

    @property
    def architecture(self) -> str:
        return "arm" if self.name.startswith("cax") else "x86"

    @property
    def is_dedicated(self) -> bool:
        return self.name.startswith("ccx")


@dataclass(frozen=True, slots=True)
class Location:
    id: int
    name: str
    description: str
    country: str
    city: str
    latitude: float
    longitude: float
    zone: str


TYPES = (
    ServerType(22, "cx22", 2, 4, 40, "0.0060", EUROPE, gone_since="2025-12-31T23:59:59Z"),
    ServerType(114, "cx23", 2, 4, 40, "0.0056", EUROPE),
    ServerType(115, "cx33", 4, 8, 80, "0.0088", EUROPE),
    ServerType(116, "cx43", 8, 16, 160, "0.0152", EUROPE),
    ServerType(117, "cx53", 16, 32, 320, "0.0280", EUROPE),
    ServerType(109, "cpx22", 2, 4, 80, "0.0104", ANYWHERE),
    ServerType(110, "cpx32", 4, 8, 160, "0.0176", ANYWHERE),
    ServerType(111, "cpx42", 8, 16, 320, "0.0320", ANYWHERE),
    ServerType(45, "cax11", 2, 4, 40, "0.0053", EUROPE),
    ServerType(93, "cax21", 4, 8, 80, "0.0096", EUROPE),
    ServerType(94, "cax31", 8, 16, 160, "0.0192", EUROPE),
    ServerType(95, "cax41", 16, 32, 320, "0.0384", EUROPE),
    ServerType(96, "ccx13", 2, 8, 80, "0.0200", ANYWHERE),
    ServerType(97, "ccx23", 4, 16, 160, "0.0392", ANYWHERE),
    ServerType(98, "ccx33", 8, 32, 240, "0.0777", ANYWHERE),
    ServerType(99, "ccx43", 16, 64, 360, "0.1546", ANYWHERE),
    ServerType(100, "ccx53", 32, 128, 600, "0.3085", ANYWHERE),
    ServerType(101, "ccx63", 48, 192, 960, "0.4624", ANYWHERE),
)
LOCATIONS = (
    Location(1, "fsn1", "Falkenstein DC Park 1", "DE", "Falkenstein", 50.47612, 12.370071, "eu-central"),
    Location(2, "nbg1", "Nuremberg DC Park 1", "DE", "Nuremberg", 49.452102, 11.076665, "eu-central"),
    Location(3, "hel1", "Helsinki DC Park 1", "FI", "Helsinki", 60.169855, 24.938379, "eu-central"),
    Location(4, "ash", "Ashburn, VA", "US", "Ashburn, VA", 39.045821, -77.487073, "us-east"),
    Location(5, "hil", "Hillsboro, OR", "US", "Hillsboro, OR", 45.54222, -122.951924, "us-west"),
    Location(6, "sin", "Singapore", "SG", "Singapore", 1.283333, 103.833333, "ap-southeast"),
)
_SYSTEMS = (
    ("ubuntu-24.04", "ubuntu", "24.04", "system"),
    ("ubuntu-22.04", "ubuntu", "22.04", "system"),
    ("debian-13", "debian", "13", "system"),
    ("debian-12", "debian", "12", "system"),
    ("rocky-9", "rocky", "9", "system"),
    ("docker-ce", "ubuntu", "24.04", "app"),
)


def _image(id: int, name: str, flavor: str, version: str, kind: str, architecture: str) -> Json:
    return {
        "id": id,
        "type": kind,
        "status": "available",
        "name": name,
        "description": name.replace("-", " ").title(),
        "image_size": None,
        "disk_size": 5,
        "created": "2024-04-25T13:26:27Z",
        "created_from": None,
        "bound_to": None,
        "os_flavor": flavor,
        "os_version": version,
        "rapid_deploy": True,
        "protection": {"delete": False},
        "deprecated": None,
        "deleted": None,
        "labels": {},
        "architecture": architecture,
    }


IMAGES: Mapping[int, Json] = {
    161547269 + 10 * at + step: _image(161547269 + 10 * at + step, *system, architecture)
    for at, system in enumerate(_SYSTEMS)
    for step, architecture in enumerate(("x86", "arm"))
}
"""By id: names repeat, once for each architecture."""


def type_of(reference: str) -> ServerType | None:
    return next((each for each in TYPES if reference in (each.name, str(each.id))), None)


def location_of(reference: str) -> Location | None:
    return next((each for each in LOCATIONS if reference in (each.name, str(each.id))), None)


def hourly(site: Site, sold: ServerType, location: str) -> Decimal:
    """What a server costs now, its addresses apart."""
    return site.shelf(sold.name, location).price or Decimal(sold.hourly)


def is_available(site: Site, sold: ServerType, location: str) -> bool:
    return location in sold.locations and not sold.gone_since and site.shelf(sold.name, location).available != 0


def money(net: Decimal) -> Json:
    return {"net": f"{net:.10f}", "gross": f"{net * VAT:.16f}"}


def prices(site: Site, sold: ServerType) -> list[JsonValue]:
    listed: list[JsonValue] = []
    for location in sold.locations:
        hour = hourly(site, sold, location)
        listed.append(
            {
                "location": location,
                "price_hourly": money(hour),
                "price_monthly": money(hour * MONTH_HOURS),
                "included_traffic": 21990232555520,
                "price_per_tb_traffic": money(Decimal(1)),
            }
        )
    return listed


def show_type(site: Site, sold: ServerType) -> Json:
    deprecation: JsonValue = None
    if sold.gone_since:
        deprecation = {"announced": "2025-10-16T06:00:00Z", "unavailable_after": sold.gone_since}
    places = [place for place in LOCATIONS if place.name in sold.locations]
    return {
        "id": sold.id,
        "name": sold.name,
        "description": sold.name.upper(),
        "category": "Dedicated vCPU" if sold.is_dedicated else "Shared vCPU",
        "cores": sold.cores,
        "memory": float(sold.memory_gb),
        "disk": sold.disk_gb,
        "storage_type": "local",
        "cpu_type": "dedicated" if sold.is_dedicated else "shared",
        "architecture": sold.architecture,
        "deprecated": bool(sold.gone_since),
        "deprecation": deprecation,
        "prices": prices(site, sold),
        "locations": [
            {
                "id": place.id,
                "name": place.name,
                "deprecation": deprecation,
                "available": is_available(site, sold, place.name),
                "recommended": not sold.gone_since,
            }
            for place in places
        ],
    }


def show_location(place: Location) -> Json:
    return {
        "id": place.id,
        "name": place.name,
        "description": place.description,
        "country": place.country,
        "city": place.city,
        "latitude": place.latitude,
        "longitude": place.longitude,
        "network_zone": place.zone,
    }


def show_prices(site: Site) -> Json:
    month = money(IPV4_HOURLY * MONTH_HOURS)
    addresses = {"ipv4": IPV4_HOURLY, "ipv6": Decimal(0)}
    floating = {"ipv4": Decimal("3"), "ipv6": Decimal("1")}
    return {
        "currency": str(site.knob("currency")),
        "vat_rate": "19.00",
        "primary_ips": [
            {
                "type": kind,
                "prices": [
                    {"location": place.name, "price_hourly": money(hour), "price_monthly": money(hour * MONTH_HOURS)}
                    for place in LOCATIONS
                ],
            }
            for kind, hour in addresses.items()
        ],
        "floating_ip": {"price_monthly": month},
        "floating_ips": [
            {"type": kind, "prices": [{"location": place.name, "price_monthly": money(net)} for place in LOCATIONS]}
            for kind, net in floating.items()
        ],
        "image": {"price_per_gb_month": money(Decimal("0.0110"))},
        "volume": {"price_per_gb_month": money(VOLUME_GB_MONTH)},
        "server_backup": {"percentage": "20.00"},
        "server_types": [{"id": sold.id, "name": sold.name, "prices": prices(site, sold)} for sold in TYPES],
        "load_balancer_types": [],
    }
