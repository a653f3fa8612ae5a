"""What `vast` makes of documented samples, and what it sends."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from gpuplan.core.address import Address
from gpuplan.core.errors import (
    AuthFailed,
    Conflict,
    InvalidRequest,
    NoCapacity,
    NotFound,
    OutcomeUnknown,
    ProviderError,
    QuotaExceeded,
    RateLimited,
    Unavailable,
)
from gpuplan.core.kinds import NodeAttrs
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Status
from gpuplan.core.offers import Pricing
from gpuplan.core.secret import Secret
from gpuplan.net.classify import error_of
from gpuplan.net.exchange import Call, Response
from gpuplan.net.marks import from_text, to_text
from gpuplan.net.profile import EFFECTS, Effect
from gpuplan.providers import vast_bodies as bodies
from gpuplan.providers.vast_tables import CREATE, INSTANCE, PROFILE, SEARCH, SSH, VOLUME
from gpuplan.providers.vast_wire import Ask, Instance, Key, Told, gpu_of, is_queued, labels_in, names_of, region_of

NOW = datetime(2026, 11, 1, tzinfo=UTC)
MARK = Mark("abcdefghijklmnopqrst", "llama", "default", "lineage", Address("clusters", "train", None, 0))
RUNNING: dict[str, Any] = {
    "id": 31842119,
    "actual_status": "running",
    "cur_state": "running",
    "intended_status": "running",
    "status_msg": "success, running vastai/base-image/ssh",
    "image_runtype": "ssh_direc ssh_proxy",
    "extra_env": [["GPUPLAN_ID", "train/0"], ["-p 8000:8000", "1"]],
    "public_ipaddr": "203.0.113.45 \n",
    "ssh_host": "ssh5.vast.ai",
    "ssh_port": 12118,
    "ports": {"22/tcp": [{"HostIp": "0.0.0.0", "HostPort": "40213"}, {"HostIp": "::", "HostPort": "40213"}]},
    "machine_id": 15231,
    "geolocation": "Quebec, CA",
    "gpu_name": "RTX 4090",
    "num_gpus": 1,
    "gpu_ram": 24564,
    "is_bid": False,
    "start_date": 1790000000.12,
}


@pytest.mark.parametrize(
    ("name", "ram_mb", "gpu"),
    [
        ("RTX 4090", 24564, "RTX4090"),
        ("RTX 4090D", 24564, "RTX4090D"),
        ("H100 SXM", 81559, "H100-80GB-SXM"),
        ("H100 PCIE", 81559, "H100-80GB-PCIE"),
        ("H100 NVL", 95830, "H100-94GB-NVL"),
        ("A100 SXM4", 40960, "A100-40GB-SXM"),
        ("A100 SXM4", 81920, "A100-80GB-SXM"),
        ("A100 PCIE", 40960, "A100-40GB-PCIE"),
        ("H200", 143771, "H200"),
        ("B200", 183359, "B200"),
        ("RTX A6000", 49140, "A6000"),
        ("RTX 6000Ada", 49140, "RTX6000Ada"),
        ("RTX PRO 6000 WS", 97887, "RTXPRO6000"),
        ("RTX 4070S Ti", 16376, "RTX4070TiSUPER"),
        ("RTX 4080S", 16376, "RTX4080SUPER"),
        ("RTX 3090 Ti", 24564, "RTX3090Ti"),
        ("Tesla V100", 32768, "V100-32GB"),
        ("Tesla T4", 15360, "T4"),
        ("Q RTX 8000", 46080, "RTX8000"),
        ("Voodoo 2", 8, None),
    ],
)
def test_gpus_have_canonical_names(name: str, ram_mb: int, gpu: str | None) -> None:
    assert gpu == gpu_of(name, ram_mb)


def test_a_canonical_name_finds_all_names_it_goes_by() -> None:
    names = ["A100 PCIE", "A100 SXM4", "H100 NVL", "H100 PCIE", "H100 SXM", "RTX 4090"]

    assert ["H100 PCIE", "H100 SXM"] == names_of("H100-80GB", names)
    assert ["A100 SXM4"] == names_of("A100-40GB-SXM", names)


@pytest.mark.parametrize(
    ("text", "region"), [("Quebec, CA", "CA"), ("US", "US"), ("", ""), ("Somewhere", ""), (", SE ", "SE")]
)
def test_the_country_is_at_the_end_of_the_place(text: str, region: str) -> None:
    assert region == region_of(text)


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ({}, Status.RUNNING),
        ({"actual_status": None, "ports": None}, Status.PENDING),
        ({"actual_status": "created", "status_msg": None}, Status.STARTING),
        ({"actual_status": "loading", "status_msg": "Pulling from vastai/base-image"}, Status.STARTING),
        ({"actual_status": "loading", "status_msg": "no space left on device"}, Status.FAILED),
        ({"ports": None}, Status.STARTING),
        ({"ports": None, "extra_env": [], "image_runtype": "args"}, Status.RUNNING),
        ({"intended_status": "stopped"}, Status.STOPPING),
        ({"actual_status": "stopped", "intended_status": "stopped"}, Status.STOPPED),
        ({"actual_status": "stopped"}, Status.PENDING),
        ({"actual_status": "stopped", "is_bid": True}, Status.STOPPED),
        ({"actual_status": "exited", "intended_status": "stopped"}, Status.STOPPED),
        ({"actual_status": "exited"}, Status.FAILED),
        ({"actual_status": "frozen"}, Status.STOPPED),
        ({"actual_status": "offline"}, Status.UNKNOWN),
        ({"actual_status": "unknown"}, Status.UNKNOWN),
        ({"actual_status": "quantum"}, Status.UNKNOWN),
    ],
)
def test_four_fields_make_one_status(told: dict[str, Any], status: Status) -> None:
    assert status is Instance.model_validate({**RUNNING, **told}).to_observed(NOW).status


@pytest.mark.parametrize(
    ("told", "target"),
    [
        ({}, ("203.0.113.45", 40213)),
        ({"ports": None}, ("ssh5.vast.ai", 12118)),
        ({"ports": {}, "image_runtype": "jupyter_proxy ssh_proxy"}, ("ssh5.vast.ai", 12119)),
        ({"ports": None, "image_runtype": "args"}, (None, 0)),
    ],
)
def test_ssh_goes_straight_where_it_can(told: dict[str, Any], target: tuple[str | None, int]) -> None:
    facts = Instance.model_validate({**RUNNING, **told}).to_observed(NOW).facts

    assert target == (facts["ssh_host"], facts["ssh_port"])


def test_an_offer_has_the_price_of_the_whole_slice_and_a_bid_is_above_the_floor() -> None:
    sample = {
        **{"id": 28453710, "machine_id": 15231, "gpu_name": "RTX 4090", "num_gpus": 2, "gpu_ram": 24564},
        **{"gpu_frac": 0.25, "cpu_cores_effective": 16.0, "cpu_ram": 262144, "cpu_cores": None, "min_bid": 0.2},
        **{"dph_total": 0.3767, "storage_total_cost": 0.0167, "geolocation": None, "reliability2": 0.9981},
    }
    ask = Ask.model_validate(sample)
    on_demand, spot = ask.to_offer("vast", NOW, is_bid=False), ask.to_offer("vast", NOW, is_bid=True)

    assert on_demand
    assert spot
    assert (Decimal("0.3767"), Pricing.ON_DEMAND) == (on_demand.price_per_hour, on_demand.pricing)
    assert (Decimal("0.2567"), Pricing.SPOT, 0.24) == (spot.price_per_hour, spot.pricing, spot.facts["bid"])
    assert (64.0, 16.0, "", "15231", 1) == (spot.memory_gb, spot.cpu, spot.region, spot.zone, spot.max_count)


@pytest.mark.parametrize(
    ("method", "route", "status", "body", "error"),
    [
        ("GET", INSTANCE, 401, '{"success":false,"error":"auth_error","msg":"Invalid user key"}', AuthFailed),
        ("GET", INSTANCE, 404, '{"success":false,"error":"auth_error","msg":"Invalid user key"}', AuthFailed),
        ("PUT", CREATE, 404, '{"error":"invalid_args","msg":"error 404/3603: no_such_ask Instance"}', NoCapacity),
        ("PUT", CREATE, 410, '{"error":"no_such_ask","msg":"error 410/3907: no_such_ask"}', NoCapacity),
        ("PUT", CREATE, 400, '{"error":"invalid_args","msg":"error 400: no_such_ask gone"}', NoCapacity),
        ("PUT", CREATE, 400, '{"success":false,"error":"insufficient_credit","msg":"no"}', QuotaExceeded),
        ("PUT", CREATE, 400, '{"success":false,"error":"invalid_args","msg":"image"}', InvalidRequest),
        ("PUT", CREATE, 200, '{"success":false,"error":"no_such_ask","msg":"gone"}', NoCapacity),
        ("PUT", CREATE, 429, "API requests too frequent endpoint threshold=4.5", RateLimited),
        ("PUT", CREATE, 502, "<html>bad gateway</html>", OutcomeUnknown),
        ("POST", SEARCH, 429, '{"error":"search_quota_exceeded","msg":"daily"}', QuotaExceeded),
        ("DELETE", INSTANCE, 404, '{"success":false,"error":"no_such_instance","msg":"gone"}', NotFound),
        ("DELETE", f"{SSH}{{id}}/", 400, '{"success":false,"error":"no_ssh_key","msg":"gone"}', NotFound),
        ("POST", SSH, 400, '{"success":false,"error":"no_ssh_key","msg":"no key"}', InvalidRequest),
        ("DELETE", VOLUME, 400, '{"success":false,"error":"invalid_args","msg":"volume is in use"}', Conflict),
        ("GET", "(download)", 403, "<Error>AccessDenied</Error>", Unavailable),
        ("PUT", INSTANCE, 200, '{"success":true}', None),
    ],
)
def test_errors(method: str, route: str, status: int, body: str, error: type[ProviderError] | None) -> None:
    effect = Effect.ONCE if route == CREATE else EFFECTS.get(method, Effect.NONE)
    call = Call(method, route, route, "try", effect)
    found = error_of(PROFILE, call, Response(status, {}, body.encode()), "vast", NOW)

    assert error is (type(found) if found else None)
    if isinstance(found, RateLimited):
        assert 4.5 == found.retry_after_seconds


def test_a_failed_create_names_what_it_left_behind() -> None:
    call = Call("PUT", CREATE, CREATE, "try", Effect.ONCE)
    body = b'{"success":false,"error":"invalid_price","msg":"bid","new_contract":31842120}'
    found = error_of(PROFILE, call, Response(400, {}, body), "vast", NOW)

    assert found
    assert "31842120" == found.failure.leftover


def test_labels_share_the_text_with_name_and_mark() -> None:
    label = bodies.to_label("train-0", MARK, {"team": "a b", "tier": "gold&"})
    changed = bodies.relabelled(label, {"team": "x"})

    assert ({"team": "a b", "tier": "gold&"}, {"team": "x"}) == (labels_in(label), labels_in(changed))
    assert MARK == from_text(label) == from_text(changed)
    assert {} == labels_in(to_text("train-0", MARK))


def test_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(bodies.Unfit, match="room for 256"):
        bodies.to_label("train-0", MARK, {"note": "x" * 250})


def test_the_mark_of_a_key_is_no_part_of_it() -> None:
    seen = Key.model_validate({"id": 7, "key": f"ssh-ed25519 AAAA team@x gpuplan-token={MARK.token}"}).to_observed(NOW)

    assert ("ssh-ed25519 AAAA team@x", MARK.token) == (seen.attrs["public_key"], seen.mark and seen.mark.token)


def test_the_start_script_can_be_repeated_and_lets_keys_in() -> None:
    asked = NodeAttrs.of(
        {"ssh_keys": ["ssh-ed25519 AAAA me"], "user_data": Secret("prepare"), "command": ["run", "a b"]}
    )
    script = bodies.to_onstart(asked, {})

    assert "grep -qxF 'ssh-ed25519 AAAA me'" in script
    assert script.endswith("prepare\nrun 'a b'\n")


def test_a_start_that_waits_is_told_by_its_words() -> None:
    assert is_queued(Told(msg="Required resources are currently unavailable, state change queued"))
    assert not is_queued(Told())
