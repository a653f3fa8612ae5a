"""The emulated market of Vast.ai: machines of strangers, the slices of them that can be rented now, and their prices.

Machines are invented, the same ones every time; what they cost is of the right order.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from gpuplan.core.values import JsonValue
from gpuplan.emulators.http import Json
from gpuplan.emulators.site import Site
from gpuplan.emulators.vast_answers import Refused

NODE = "node"
SIZES = (1, 2, 4, 8)
FIRST_ASK, FIRST_MACHINE, FIRST_VOLUME_ASK = 20_000_000, 15_000, 330_000
GENERATIONS = 1000
MONTH_HOURS = 720
SPOT_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Model:
    """`name` is Vast's, `gpu` canonical, the price that of one GPU for an hour."""

    name: str
    gpu: str
    ram_mb: int
    price: float


MODELS = (
    Model("RTX 4090", "RTX4090", 24564, 0.36),
    Model("H100 SXM", "H100-80GB-SXM", 81559, 1.87),
    Model("RTX 3090", "RTX3090", 24576, 0.17),
    Model("A100 SXM4", "A100-80GB-SXM", 81920, 0.92),
    Model("RTX 5090", "RTX5090", 32607, 0.45),
    Model("L40S", "L40S", 46068, 0.55),
    Model("A100 SXM4", "A100-40GB-SXM", 40960, 0.61),
    Model("H200", "H200", 143771, 2.31),
    Model("RTX 4070S Ti", "RTX4070TiSUPER", 16376, 0.11),
    Model("RTX 6000Ada", "RTX6000Ada", 49140, 0.62),
    Model("H100 NVL", "H100-94GB-NVL", 95830, 1.75),
    Model("Tesla V100", "V100-32GB", 32768, 0.19),
)
PLACES = ("Quebec, CA", "California, US", "Sweden, SE", "Texas, US", "Ontario, CA", "Czechia, CZ", "Bulgaria, BG")


@dataclass(frozen=True, slots=True)
class Machine:
    number: int
    model: Model
    place: str | None

    @property
    def id(self) -> int:
        return FIRST_MACHINE + self.number

    @property
    def gpus(self) -> int:
        return (8, 4, 8, 2)[self.number // len(MODELS) % 4]

    @property
    def country(self) -> str:
        return self.place[-2:] if self.place else ""

    @property
    def address(self) -> str:
        return f"198.19.{self.number // 250}.{self.number % 250 + 1}"


@dataclass(frozen=True, slots=True)
class Ask:
    """A slice that can be rented once; the next one of the same machine has another id."""

    id: int
    machine: Machine
    size: int


@cache
def machine_of(number: int) -> Machine:
    """Every 19th tells no place, as some do."""
    place = None if number % 19 == 18 else PLACES[number // 2 % len(PLACES)]
    return Machine(number, MODELS[number % len(MODELS)], place)


class Market:
    """What there is to rent at this moment."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._held: Counter[int] = Counter()
        self._rented: Counter[int] = Counter()
        things = (*site.world.living[site.type.name, NODE].values(), *site.world.gone[site.type.name, NODE].values())
        for thing in things:
            number, size = thing.hidden["machine"], thing.hidden["size"]
            assert isinstance(number, int)
            assert isinstance(size, int)
            self._rented[number] += 1
            self._held[number] += size if thing.hidden["holds"] and thing.deleted_at is None else 0

    def free(self, machine: Machine) -> int:
        """GPUs of a machine that nobody uses."""
        available = self._site.shelf(machine.model.gpu, machine.country).available
        return 0 if available is not None and available <= 0 else machine.gpus - self._held[machine.number]

    def asks(self) -> Iterator[Ask]:
        for number in range(self._site.count("machines")):
            machine = machine_of(number)
            free = self.free(machine)
            yield from (self._ask(machine, index) for index, size in enumerate(SIZES) if size <= free)

    def find(self, id: int) -> Ask | None:
        """The ask of that id, if it still can be rented."""
        index = (id - FIRST_ASK) // GENERATIONS
        number, size = divmod(index, len(SIZES))
        if not 0 <= number < self._site.count("machines"):
            return None
        ask = self._ask(machine_of(number), size)
        return ask if ask.id == id and ask.size <= self.free(ask.machine) else None

    def _ask(self, machine: Machine, index: int) -> Ask:
        generation = self._rented[machine.number] % GENERATIONS
        id = FIRST_ASK + (machine.number * len(SIZES) + index) * GENERATIONS + generation
        return Ask(id, machine, SIZES[index])


@cache
def described(machine: Machine, size: int) -> Json:
    """What does not change of a slice."""
    n, model = machine.number, machine.model
    reliability = 0.93 if n % 13 == 12 else 0.9981
    return {
        "bundle_id": 1_190_000 + n,
        "machine_id": machine.id,
        "host_id": 60_000 + n // 3,
        "hosting_type": 0,
        "gpu_name": model.name,
        "num_gpus": size,
        "gpu_frac": size / machine.gpus,
        "gpu_ram": model.ram_mb,
        "gpu_total_ram": model.ram_mb * size,
        "gpu_totalram": model.ram_mb * size,
        "gpu_arch": "nvidia",
        "compute_cap": 890,
        "cuda_max_good": 12.8 if n % 5 else 13.0,
        "driver_version": "570.124.06",
        "gpu_mem_bw": 900.1,
        "bw_nvlink": 0.0,
        "pcie_bw": 22.5,
        "gpu_lanes": 16,
        "total_flops": 82.5 * size,
        "dlperf": 105.1 * size,
        "cpu_name": "AMD EPYC 7543",
        "cpu_arch": "amd64",
        "cpu_cores": None if n % 23 == 22 else 64,
        "cpu_cores_effective": 64.0 * size / machine.gpus,
        "cpu_ghz": 2.8,
        "cpu_ram": 257842,
        "has_avx": 1,
        "disk_space": 812.4,
        "disk_bw": 2100.0,
        "disk_name": "NVMe",
        "storage_cost": 0.2,
        "inet_down": 90.5 if n % 29 == 28 else 1850.3,
        "inet_up": 902.1,
        "inet_down_cost": 0.002,
        "inet_up_cost": 0.004,
        "public_ipaddr": machine.address,
        "static_ip": True,
        "direct_port_count": 0 if n % 11 == 10 else 100,
        "reliability": reliability,
        "reliability2": reliability,
        "verification": "unverified" if n % 17 == 16 else "verified",
        "verified": n % 17 != 16,
        "rented": False,
        "rentable": True,
        "external": None,
        "vms_enabled": False,
        "geolocation": machine.place,
        "geolocode": 51,
        "os_version": "22.04",
        "resource_type": "gpu",
        "rn": 1,
    }


def prices(site: Site, ask: Ask) -> tuple[float, float]:
    """USD per hour of a whole slice without its disk: on demand, and the lowest bid that wins."""
    model = ask.machine.model
    shelf = site.shelf(model.gpu, ask.machine.country)
    own = model.price * (1 + ask.machine.number // len(MODELS) % 40 / 100)
    price = float(shelf.price) if shelf.price is not None else own
    spot = float(shelf.spot_price) if shelf.spot_price is not None else price * SPOT_SHARE
    return round(price * ask.size, 4), round(spot * ask.size, 4)


def disk_price(gb: float) -> float:
    """USD per hour."""
    return round(0.2 * gb / MONTH_HOURS, 4)


def show(site: Site, ask: Ask, disk: float, *, is_bid: bool) -> Json:
    """An offer as the search has it."""
    on_demand, lowest = prices(site, ask)
    base = lowest if is_bid else on_demand
    total = round(base + disk_price(disk), 4)
    now = site.now.timestamp()
    return {
        **described(ask.machine, ask.size),
        "id": ask.id,
        "ask_contract_id": ask.id,
        "is_bid": is_bid,
        "min_bid": lowest,
        "dph_base": base,
        "dph_total": total,
        "storage_total_cost": disk_price(disk),
        "dlperf_per_dphtotal": round(105.1 * ask.size / total, 1),
        "score": round(310.4 - total, 2),
        "search": cost_of(base, disk),
        "start_date": now - 86400.0,
        "end_date": now + 40 * 86400.0,
        "duration": (0.5 if ask.machine.number % 31 == 30 else 40) * 86400.0,
        "avail_vol_ask_id": FIRST_VOLUME_ASK + ask.machine.number,
        "avail_vol_size": 400.0,
    }


def cost_of(base: float, disk: float) -> Json:
    total = round(base + disk_price(disk), 4)
    return {
        "gpuCostPerHour": base,
        "diskHour": disk_price(disk),
        "totalHour": total,
        "discountTotalHour": 0,
        "discountedTotalPerHour": total,
    }


def search(site: Site, query: Json) -> list[JsonValue]:
    """The offers a query asks for, in its order, no more than the server gives."""
    kinds = {"on-demand": False, "ondemand": False, "bid": True, "reserved": False}
    kind = str(query.get("type") or "on-demand")
    if kind not in kinds:
        raise Refused(400, "invalid_request", f"error 400: unknown type {kind}")
    disk = query.get("allocated_storage")
    gb = float(disk) if isinstance(disk, (int, float)) and not isinstance(disk, bool) else 8.0
    filters = {name: value for name, value in query.items() if isinstance(value, dict) and name != "q"}
    known = described(machine_of(0), 1).keys()
    fixed = {name: value for name, value in filters.items() if name in known}
    moving = {name: value for name, value in filters.items() if name not in known}
    rows = [
        row
        for ask in Market(site).asks()
        if passes(described(ask.machine, ask.size), fixed)
        and passes(row := show(site, ask, gb, is_bid=kinds[kind]), moving)
    ]
    order = query.get("order")
    for column, direction in reversed(
        [pair for pair in order if isinstance(pair, list) and len(pair) == 2] if isinstance(order, list) else []
    ):
        rows.sort(key=lambda row: _sortable(row.get(str(column))), reverse=direction == "desc")
    limit = query.get("limit")
    most = site.count("most_offers")
    return list[JsonValue](rows[: min(limit, most) if isinstance(limit, int) and limit > 0 else most])


def passes(row: Json, filters: Mapping[str, JsonValue]) -> bool:
    """Whether a row fits filters of the form `{column: {operator: value}}`. Raises Refused for an unknown operator."""
    for name, condition in filters.items():
        if not isinstance(condition, dict):
            raise Refused(400, "invalid_request", f"error 400: {name} needs an operator")
        # Nothing is ever found by `id`, although the answer has it.
        value = None if name == "id" else row.get(name)
        for operator, wanted in condition.items():
            if not _holds(name, operator, value, wanted):
                return False
    return True


def _holds(name: str, operator: str, value: JsonValue, wanted: JsonValue) -> bool:
    if name == "geolocation" and isinstance(value, str):
        value = value[-2:]
    if isinstance(wanted, list):
        several = [_like(value, item) for item in wanted]
        if operator not in ("in", "notin"):
            raise Refused(400, "invalid_request", f"error 400: {operator} takes no list")
        return (value in several) == (operator == "in")
    other = _like(value, wanted)
    if operator in ("eq", "neq"):
        return (value == other or (value is None and other is False)) == (operator == "eq")
    if not isinstance(value, (int, float)) or not isinstance(other, (int, float)):
        return False
    match operator:
        case "gt":
            return value > other
        case "gte":
            return value >= other
        case "lt":
            return value < other
        case "lte":
            return value <= other
    raise Refused(400, "invalid_request", f"error 400: unknown operator {operator}")


def _like(value: JsonValue, wanted: JsonValue) -> JsonValue:
    """What is wanted, in the type of what is there: clients send numbers and booleans as texts."""
    if not isinstance(wanted, str):
        return wanted
    if wanted.lower() in ("true", "false"):
        return wanted.lower() == "true"
    if isinstance(value, (int, float)):
        try:
            return float(wanted)
        except ValueError:
            return wanted
    return wanted.replace("_", " ") if value is not None else wanted


def _sortable(value: JsonValue) -> tuple[bool, float, str]:
    is_number = isinstance(value, (int, float))
    return (value is None, float(value) if isinstance(value, (int, float)) else 0.0, "" if is_number else str(value))
