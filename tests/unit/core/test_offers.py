from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gpuplan.core.gpus import GpuRequest
from gpuplan.core.offers import Offer, OfferQuery, Pricing, place_of

NOBODY = GpuRequest("", 0)
OFFER = Offer("here", "big", "EU", "L40S", 1, Pricing.ON_DEMAND, None, datetime(2026, 11, 24, tzinfo=UTC))


@pytest.mark.parametrize(
    ("query", "gpu", "count", "wanted"),
    [
        (OfferQuery(), "L40S", 1, True),
        (OfferQuery(), "", 0, True),
        (OfferQuery("H100-80GB"), "H100-80GB-SXM", 8, True),
        (OfferQuery("H100-80GB", 8), "H100-80GB", 4, False),
        (OfferQuery(gpu_count=0), "", 0, True),
        (OfferQuery(machines=(GpuRequest("L40S", 2), GpuRequest("L4", 1))), "L40S", 2, True),
        (OfferQuery(machines=(GpuRequest("L40S", 2), GpuRequest("L4", 1))), "L40S", 1, False),
        (OfferQuery(machines=(GpuRequest("L40S", 2), NOBODY)), "", 0, True),
        (OfferQuery(machines=(GpuRequest("L40S", 2),)), "", 0, False),
    ],
)
def test_one_machine_or_several_are_asked_for_in_one_way(query: OfferQuery, gpu: str, count: int, wanted: bool) -> None:
    assert wanted is query.wants(gpu, count)


def test_a_query_tells_its_gpus_and_their_numbers() -> None:
    several = OfferQuery(machines=(GpuRequest("L40S", 2), GpuRequest("L4", 1), GpuRequest("L4", 2), NOBODY))

    assert ((), ()) == (OfferQuery().gpus, OfferQuery().gpu_counts)
    assert (("L4",), (2,)) == (OfferQuery("L4", 2).gpus, OfferQuery("L4", 2).gpu_counts)
    assert (("L40S", "L4"), (0, 1, 2)) == (several.gpus, several.gpu_counts)


def test_a_place_is_the_machine_where_there_is_only_one() -> None:
    assert "big EU" == place_of(OFFER)
    assert place_of(OFFER) != place_of(replace(OFFER, region="US"))
    assert place_of(replace(OFFER, host="7")) == place_of(replace(OFFER, host="7", ref="small", region="US"))
