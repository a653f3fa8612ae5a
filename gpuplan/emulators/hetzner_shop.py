"""What there is to buy at Hetzner: server types, locations, images, prices."""

from collections.abc import Mapping

from gpuplan.core.values import JsonValue
from gpuplan.emulators import hetzner_catalog as catalog
from gpuplan.emulators.hetzner_answers import Refused, missing, page
from gpuplan.emulators.http import Request, Response, Routes
from gpuplan.emulators.site import Site

SHOP = Routes()

Ids = Mapping[str, str]


@SHOP.on("GET", "/v1/server_types")
def server_types(site: Site, request: Request, ids: Ids) -> Response:
    sold = [each for each in catalog.TYPES if request.one("name") in ("", each.name)]
    return page(site, request, "server_types", sold, lambda each: catalog.show_type(site, each))


@SHOP.on("GET", "/v1/server_types/{id}")
def server_type(site: Site, request: Request, ids: Ids) -> Response:
    found = catalog.type_of(ids["id"])
    if found is None:
        raise missing("server_type", ids["id"])
    return Response(200, {"server_type": catalog.show_type(site, found)})


@SHOP.on("GET", "/v1/locations")
def locations(site: Site, request: Request, ids: Ids) -> Response:
    places = [place for place in catalog.LOCATIONS if request.one("name") in ("", place.name)]
    return page(site, request, "locations", places, catalog.show_location)


@SHOP.on("GET", "/v1/locations/{id}")
def location(site: Site, request: Request, ids: Ids) -> Response:
    found = catalog.location_of(ids["id"])
    if found is None:
        raise missing("location", ids["id"])
    return Response(200, {"location": catalog.show_location(found)})


@SHOP.on("GET", "/v1/images")
def images(site: Site, request: Request, ids: Ids) -> Response:
    filters = {field: request.query.get(field, ()) for field in ("name", "type", "status", "architecture")}
    found = [
        image
        for image in catalog.IMAGES.values()
        if all(not wanted or image[field] in wanted for field, wanted in filters.items())
    ]
    return page(site, request, "images", found, dict)


@SHOP.on("GET", "/v1/images/{id}")
def image(site: Site, request: Request, ids: Ids) -> Response:
    found = catalog.IMAGES.get(int(ids["id"])) if ids["id"].isdigit() else None
    if found is None:
        raise missing("image", ids["id"])
    return Response(200, {"image": found})


@SHOP.on("GET", "/v1/pricing")
def pricing(site: Site, request: Request, ids: Ids) -> Response:
    return Response(200, {"pricing": catalog.show_prices(site)})


@SHOP.on("GET", "/v1/datacenters")
def datacenters(site: Site, request: Request, ids: Ids) -> Response:
    details: JsonValue = {"announcement": "https://docs.hetzner.cloud/changelog#phasing-out-datacenters"}
    raise Refused(410, "deprecated_api_endpoint", "API functionality was removed", details)


@SHOP.on("GET", "/v1/datacenters/{id}")
def datacenter(site: Site, request: Request, ids: Ids) -> Response:
    return datacenters(site, request, ids)
