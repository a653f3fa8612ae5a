"""The options of `local`, and which account they mean."""

from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import ValidationError

from gpuplan.providers.local_machine import Options, account_of, devices_of, inherited, root_of


@pytest.mark.parametrize(
    ("options", "environ", "root"),
    [
        ({}, {"HOME": "/home/ana"}, "/home/ana/.local/state/gpuplan/local"),
        ({}, {"HOME": "/home/ana", "XDG_STATE_HOME": "/var/state"}, "/var/state/gpuplan/local"),
        ({"root": "~/nodes"}, {"HOME": "/home/ana"}, "/home/ana/nodes"),
        ({"root": "/srv/nodes"}, {"HOME": "/home/ana"}, "/srv/nodes"),
    ],
)
def test_the_registry_lies_where_the_options_or_the_environment_say(
    options: dict[str, str], environ: dict[str, str], root: str
) -> None:
    assert Path(root) == root_of(Options.model_validate(options), environ)


def test_another_registry_is_another_account() -> None:
    assert account_of(Path("/a")) == account_of(Path("/a")) != account_of(Path("/b"))


def test_an_inventory_numbers_its_gpus_in_order() -> None:
    options = Options.model_validate({"inventory": [{"gpu": "h100", "count": 2}, {"gpu": "T4", "price_per_hour": 0.5}]})

    assert [("0", "H100-80GB", 0), ("1", "H100-80GB", 0), ("2", "T4", Decimal("0.5"))] == [
        (device.id, device.gpu, device.price_per_hour) for device in devices_of(options, {})
    ]


def test_an_unknown_gpu_in_the_inventory_lists_the_nearest() -> None:
    with pytest.raises(ValidationError, match=r"`H1000` is no GPU gpuplan knows; near to it: .*H100"):
        Options.model_validate({"inventory": [{"gpu": "H1000"}]})


@pytest.mark.parametrize(("written", "seconds"), [("90s", 90), (5, 5), ("1m", 60)])
def test_grace_is_a_duration(written: object, seconds: float) -> None:
    assert seconds == Options.model_validate({"grace": written}).grace


def test_a_node_begins_with_the_path_and_the_language_and_little_else() -> None:
    assert {"PATH": "/bin", "LANG": "C"} == inherited(
        {"PATH": "/bin", "LANG": "C", "HF_TOKEN": "x", "AWS_PROFILE": "y"}
    )
