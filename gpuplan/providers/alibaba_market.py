"""What a region of Alibaba Cloud has: what there is to rent and for how much, images, the block's own vSwitches.

Part of `alibaba`. Whatever does not change while an account is open is asked once.
"""

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TypeVar

from gpuplan.core.errors import Failure, InvalidRequest, NoCapacity
from gpuplan.core.kinds import NodeAttrs
from gpuplan.core.offers import Offer, OfferQuery, Pricing
from gpuplan.core.ports import Want
from gpuplan.net.acs3 import flat
from gpuplan.net.api import Api
from gpuplan.net.profile import Effect
from gpuplan.providers import alibaba_bodies as bodies
from gpuplan.providers import alibaba_tables as tables
from gpuplan.providers import alibaba_wire as wire
from gpuplan.providers.alibaba_bodies import Body
from gpuplan.providers.alibaba_tables import BY_NUMBER, VPC, Options

T = TypeVar("T")
P = TypeVar("P", wire.Price, wire.SpotPrices)


class Market:
    """Of one region, for one account."""

    def __init__(self, api: Api, options: Options) -> None:
        self._api = api
        self._options = options
        self._region = options.region_id

    async def offers(self, query: OfferQuery) -> Sequence[Offer]:
        if query.regions and self._region not in query.regions:
            return ()
        types = [each for each in await self._types() if query.wants(each.gpu, each.gpu_count)]
        payments = [p for p in (Pricing.ON_DEMAND, Pricing.SPOT) if query.spot in (None, p is Pricing.SPOT)]
        zones = [switch.zone_id for switch in await self._switches("look where offers can be reached")]
        stocks = await self._api.together(self._stocks(pricing) for pricing in payments if types)
        names = [each.instance_type_id for each in types]
        prices = await self._api.together(self._price(name) for name in names if Pricing.ON_DEMAND in payments)
        spots = await self._api.together(self._spot_prices(name) for name in names if Pricing.SPOT in payments)
        board = wire.Board(
            provider=self._api.provider,
            region=self._region,
            now=self._api.clock.now(),
            stocks=dict(zip(payments, (each.stocks() for each in stocks), strict=False)),
            prices=dict(zip(names, prices, strict=False)),
            spot_prices=dict(zip(names, spots, strict=False)),
            usd_per_cny=self._options.usd_per_cny,
        )
        return board.offers(types, zones)

    async def place(self, want: Want, to: str) -> dict[str, str]:
        """The vSwitch decides about the zone, which is therefore never said. Raises ValueError."""
        options, asked = bodies.options_of(want), NodeAttrs.of(want.attrs)
        region, zone = (want.offer.region, want.offer.zone) if want.offer else (asked.region, asked.zone or "")
        if region not in (None, "", self._region):
            raise ValueError(f"it is to be in {region}, and this account makes nodes in {self._region} (`region_id`)")
        group = options.security_group_id or self._options.security_group_id
        switches = (options.vswitch_id,) if options.vswitch_id else self._options.vswitches
        if not group or not switches:
            missing = "vswitch_id" if group else "security_group_id"
            raise ValueError(f"an instance needs a `{missing}`: say it in the provider block")
        if not zone or options.vswitch_id:
            return {"VSwitchId": switches[0], "SecurityGroupId": group}
        fitting = [each.vswitch_id for each in await self._switches(to) if each.zone_id == zone]
        if not fitting:
            raise ValueError(f"no vSwitch of `vswitch_id` is in zone {zone}")
        return {"VSwitchId": fitting[0], "SecurityGroupId": group}

    async def image(self, want: Want, to: str) -> Body:
        """An id as it is, a family for Alibaba to choose from, and of a pattern the newest. Raises ValueError."""
        asked = NodeAttrs.of(want.attrs).image or bodies.DEFAULT_IMAGE
        if asked.startswith("acs:"):
            return {"ImageFamily": asked}
        if "*" not in asked:
            return {"ImageId": asked}
        images = await self._api.remembered("images", lambda: self._images(to))
        fitting = [each for each in images if fnmatchcase(each.image_id, asked) or fnmatchcase(each.image_name, asked)]
        if not fitting:
            raise ValueError(f"no image of {self._region} is called `{asked}`")
        return {"ImageId": max(fitting, key=lambda each: (each.creation_time, each.image_id)).image_id}

    async def _images(self, to: str) -> Sequence[wire.Image]:
        found: list[wire.Image] = []
        for owner in ("system", "self"):
            form = flat({"RegionId": self._region, "ImageOwnerAlias": owner, "OSType": "linux"})
            paging = replace(BY_NUMBER, page_size=100)
            pages = self._api.pages(
                "/DescribeImages",
                method="POST",
                json=form,
                items="Images.Image",
                answer=wire.Image,
                paging=paging,
                to=to,
            )
            found += [image async for image in pages]
        return found

    async def _switches(self, to: str) -> Sequence[wire.VSwitch]:
        """The block's own, with the zones they are in."""
        ids = self._options.vswitches

        async def look(id: str) -> Sequence[wire.VSwitch]:
            form = flat({"RegionId": self._region, "VSwitchId": id})
            version = {"x-acs-version": tables.VPC_VERSION}
            return await self._api.call(
                "POST",
                "/DescribeVSwitches",
                host=VPC,
                headers=version,
                json=form,
                effect=Effect.NONE,
                answer=tuple[wire.VSwitch, ...],
                at="VSwitches.VSwitch",
                to=to,
            )

        async def look_at_all() -> Sequence[wire.VSwitch]:
            found = [switch for each in await self._api.together(look(id) for id in ids) for switch in each]
            if missing := sorted(set(ids) - {switch.vswitch_id for switch in found}):
                message = f"{self._region} has no vSwitch {', '.join(missing)} (`vswitch_id`)"
                raise InvalidRequest(Failure(self._api.provider, to, message))
            return found

        return await self._api.remembered("vswitches", look_at_all)

    async def _types(self) -> Sequence[wire.InstanceType]:
        """What there is to choose from: of families that are not named, those with whole GPUs."""

        async def read() -> Sequence[wire.InstanceType]:
            families = self._options.families
            wanted: Body = {"InstanceTypeFamilies": list(families)} if families else {"MinimumGPUAmount": 1}
            pages = self._api.pages(
                "/DescribeInstanceTypes",
                method="POST",
                json=flat(wanted),
                items="InstanceTypes.InstanceType",
                answer=wire.InstanceType,
                to="list instance types",
            )
            return [each async for each in pages if families or each.gpu]

        return await self._api.remembered("types", read)

    async def _stocks(self, pricing: Pricing) -> wire.Availability:
        spot = {"SpotStrategy": "SpotAsPriceGo"} if pricing is Pricing.SPOT else {}
        body: Body = {"DestinationResource": "InstanceType", "IoOptimized": "optimized", **spot}
        return await self._look("/DescribeAvailableResource", body, wire.Availability, "look what there is")

    async def _price(self, type: str) -> wire.Price:
        body: Body = {"ResourceType": "instance", "InstanceType": type, "PriceUnit": "Hour", "Period": 1}
        body |= {"InstanceNetworkType": "vpc", "IoOptimized": "optimized", "SystemDisk": {"Category": "cloud_essd"}}
        return await self._told("/DescribePrice", body, wire.Price, f"look at the price of {type}")

    async def _spot_prices(self, type: str) -> wire.SpotPrices:
        body: Body = {"InstanceType": type, "NetworkType": "vpc", "IoOptimized": "optimized"}
        return await self._told("/DescribeSpotPriceHistory", body, wire.SpotPrices, f"look at spot prices of {type}")

    async def _told(self, route: str, body: Body, answer: type[P], to: str) -> P:
        """A price, or one that tells nothing: what is not sold here must not hide what is."""
        try:
            return await self._look(route, body, answer, to)
        except (InvalidRequest, NoCapacity):
            return answer()

    async def _look(self, route: str, body: Body, answer: type[T], to: str) -> T:
        form = flat({"RegionId": self._region, **body})
        return await self._api.call("POST", route, json=form, effect=Effect.NONE, answer=answer, to=to)
