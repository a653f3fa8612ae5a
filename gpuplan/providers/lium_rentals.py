"""The rentals beside Lium's own API, at api.lium.ai: three calls, and a wallet that pays.

No vendor documents them; what is known comes from the clients that make them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from pydantic import AliasChoices, Field, model_validator

from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import Kind
from gpuplan.core.errors import Failure, InvalidRequest, OutcomeUnknown, ProtocolMismatch
from gpuplan.core.gpus import canonical_gpu, known_gpus
from gpuplan.core.kinds import NodeAttrs
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import Offer, OfferQuery, Pricing
from gpuplan.core.ports import Account, Links, Listed, SshTarget, Want
from gpuplan.core.values import Attrs, JsonValue
from gpuplan.net.api import Api
from gpuplan.net.marks import from_name, to_name
from gpuplan.net.payload import Payload
from gpuplan.providers.lium_bodies import Unfit, options_of, texts_of
from gpuplan.providers.lium_tables import RENTAL, RENTALS, Options, capabilities
from gpuplan.providers.lium_wire import Body, moment_of

NAME_LENGTH = 63
SLUGS: Mapping[str, tuple[str, str]] = {
    "H100-80GB": ("H100-80GB", "2.20"),
    "A100-80GB": ("A100-80GB", "1.40"),
    "A100-40GB": ("A100-40GB", "0.95"),
    "RTX4090": ("RTX_4090", "0.42"),
    "RTX3090": ("RTX_3090", "0.19"),
}
"""GPU to its name here, and to what it costs for an hour, roughly. There is no price list."""
STATUSES: Mapping[str, Status] = {
    **dict.fromkeys(("active", "running", "ready"), Status.RUNNING),
    **dict.fromkeys(("matching", "pending", "provisioning", "starting", "queued"), Status.STARTING),
    # A rental that stops never runs again.
    **dict.fromkeys(("stopping", "ending"), Status.TERMINATING),
    **dict.fromkeys(("ended", "expired", "terminated", "failed", "cancelled"), Status.TERMINATED),
}


class Rental(Payload):
    """In any of three wrappings, and with several words for one thing. Only the id is certain."""

    id: str = Field(validation_alias=AliasChoices("rental_id", "id"))
    name: str = ""
    status: str = ""
    gpu_type: str = "unknown"
    region: str = Field("", validation_alias=AliasChoices("region", "datacenter"))
    public_ip: str = Field("", validation_alias=AliasChoices("public_ip", "ip"))
    private_ip: str = ""
    miner_uid: str = ""
    ssh_port: int = 22
    price_per_hour: float | None = None
    expires_at: str = ""

    @model_validator(mode="before")
    @classmethod
    def _is_wrapped(cls, value: Any) -> Any:
        for wrapping in ("rental", "data"):
            if isinstance(value, dict) and isinstance(value.get(wrapping), dict):
                return value[wrapping]
        return value

    def to_observed(self, now: datetime) -> Observed:
        word = self.status.lower()
        status = STATUSES.get(word, Status.UNKNOWN)
        detail = "" if status is Status.RUNNING else word
        if status is Status.UNKNOWN:
            detail = f"Lium says it is `{self.status}`"
        elif status is Status.RUNNING and not self.public_ip:
            status, detail = Status.STARTING, "waits for its address"
        gpu = canonical_gpu(self.gpu_type)
        ends_at = moment_of(self.expires_at)
        attrs: Attrs = {"gpu": f"{gpu}:1"} if gpu else {}
        facts: dict[str, JsonValue] = {
            "name": self.name,
            "public_ip": self.public_ip,
            "private_ip": self.private_ip,
            "ssh_port": self.ssh_port if self.public_ip else None,
            "region": self.region,
            "miner_uid": self.miner_uid,
            "price_per_hour": self.price_per_hour,
            "ends_at": ends_at.isoformat() if ends_at else None,
        }
        # What is not told must not take the place of what is known from the creation.
        told = {name: fact for name, fact in facts.items() if fact not in ("", None)}
        return Observed(Kind.NODE, self.id, status, attrs, told, from_name(self.name), detail, expires_at=ends_at)


class LiumRentals:
    """One wallet."""

    def __init__(self, api: Api, options: Options) -> None:
        self._api = api
        self._options = options
        self._capabilities = capabilities(options)
        self._ends: dict[str, datetime] = {}

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def health(self) -> Account:
        """There is no call for it: who may ask for a rental that is not there has a key that works."""
        await self._api.find("GET", RENTAL, "gpuplan-health", answer=Rental, to="look at the account")
        wallet = f"{self._api.key('hotkey')} {self._api.key('coldkey')}"
        return Account(self._api.account_id(wallet), self._api.endpoint)

    async def offers(self, query: OfferQuery) -> Sequence[Offer]:
        """One GPU each; what it costs is told by nobody, and estimated for some."""
        prices = dict.fromkeys(self._options.gpus, "")
        prices |= {gpu: price for gpu, (_, price) in SLUGS.items()}
        offers = [self._offer(gpu, price) for gpu, price in prices.items()]
        is_wanted = query.spot is not True
        return [offer for offer in offers if is_wanted and query.wants(offer.gpu, offer.gpu_count)]

    async def list(self, kind: Kind, known: frozenset[str]) -> Listed:
        """Those that are known: there is no listing."""
        found = await self._api.together([self.get(kind, id) for id in sorted(known)])
        return Listed([seen for seen in found if seen is not None])

    async def get(self, kind: Kind, remote_id: str) -> Observed | None:
        to = f"look at {kind} {remote_id}"
        rental = await self._api.find("GET", RENTAL, remote_id, answer=Rental, to=to)
        return None if rental is None else self._observe(rental)

    async def create(self, want: Want, mark: Mark, links: Links) -> Observed:
        to, asked = f"create {want.address}", NodeAttrs.of(want.attrs)
        try:
            body, hours = self._body(want, mark, asked, links)
        except Unfit as exc:
            raise InvalidRequest(Failure(self._api.provider, to, str(exc))) from exc
        ends_at = self._api.clock.now() + timedelta(hours=hours)
        try:
            rental = await self._api.call("POST", RENTALS, json=body, answer=Rental, gpu=str(asked.gpu or ""), to=to)
        except (OutcomeUnknown, ProtocolMismatch) as error:
            latest = self._api.clock.now() + timedelta(hours=hours)
            told = f"if it exists, its name is {body['name']}, and it ends by itself by {latest:%Y-%m-%d %H:%M} UTC"
            raise type(error)(replace(error.failure, facts=(*error.failure.facts, told))) from error
        self._ends[rental.id] = ends_at
        return replace(self._observe(rental), mark=mark)

    async def delete(self, kind: Kind, remote_id: str, links: Links) -> None:
        await self._api.remove(RENTAL, remote_id, to=f"delete {kind} {remote_id}")

    def ssh_target(self, observed: Observed, member: int | None = None) -> SshTarget | None:
        host, port = observed.facts.get("public_ip"), observed.facts.get("ssh_port")
        if not isinstance(host, str) or not isinstance(port, int):
            return None
        return replace(self._api.ssh_target(host, port), key_file=self._options.ssh_key_path)

    async def close(self) -> None:
        await self._api.close()

    def _body(self, want: Want, mark: Mark, asked: NodeAttrs, links: Links) -> tuple[Body, int]:
        """What is sent, and for how many hours. Raises Unfit."""
        if asked.gpu is None or asked.gpu.count != 1:
            raise Unfit("a rental has one GPU: name it as `gpu`")
        options = options_of(asked)
        if strange := sorted(options.model_fields_set - {"duration_hours"}):
            raise Unfit(f"`{strange[0]}` is for pods: a rental has `duration_hours`")
        keys = texts_of(asked, links, {}) or [key for key in (self._options.ssh_public_key,) if key]
        if len(keys) != 1:
            raise Unfit("a rental takes one SSH key: name it in `ssh_keys`, or set `LIUM_SSH_PUBKEY`")
        hours = options.duration_hours or self._options.duration_hours
        slug = want.offer.ref if want.offer else slug_of(asked.gpu.name)
        body: Body = {
            "name": to_name(f"gpuplan-{want.name}", mark, limit=NAME_LENGTH),
            "hotkey": self._api.key("hotkey"),
            "coldkey": self._api.key("coldkey"),
            "gpu_type": slug,
            "duration_hours": hours,
            "ssh_pubkey": keys[0],
        }
        return body, hours

    def _offer(self, gpu: str, price: str) -> Offer:
        return Offer(
            provider=self._api.provider,
            ref=slug_of(gpu),
            region=next(iter(self._options.regions), ""),
            gpu=gpu,
            gpu_count=1,
            pricing=Pricing.ON_DEMAND,
            price_per_hour=Decimal(price) if price else None,
            seen_at=self._api.clock.now(),
            gpu_memory_gb=known_gpus()[gpu].memory_gb,
            facts={"price_is_estimate": bool(price)},
        )

    def _observe(self, rental: Rental) -> Observed:
        seen = rental.to_observed(self._api.clock.now())
        facts: dict[str, JsonValue] = dict(seen.facts)
        if self._options.regions:
            facts.setdefault("region", self._options.regions[0])
        ends_at = seen.expires_at or self._ends.get(rental.id)
        if ends_at is not None:
            facts["ends_at"] = ends_at.isoformat()
        return replace(seen, facts=facts, expires_at=ends_at)


def slug_of(gpu: str) -> str:
    """The GPU's name here; one that nobody has heard of goes out as it is."""
    return SLUGS[gpu][0] if gpu in SLUGS else gpu
