"""Provider types are found by name, loaded on first use, and refused with a reason."""

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from gpuplan.core.diagnostics import Diagnostic
from gpuplan.core.errors import GpuplanError
from gpuplan.core.ports import ProviderType
from gpuplan.providers.registry import provider_types

ADAPTER = """
from dataclasses import replace
from gpuplan.providers.local import PROVIDER as LOCAL
PROVIDER = replace(LOCAL, name="acme", title="Acme")
OLD = replace(PROVIDER, api_version=0)
NEW = replace(PROVIDER, api_version=99)
NOTHING = 7
class Acme:
    PROVIDER = PROVIDER
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, ProviderType]:
    """Provider types with a package `gpuplan-acme` installed beside ours."""
    (tmp_path / "acme_adapter.py").write_text(ADAPTER)
    (tmp_path / "acme_needy.py").write_text("import acme_cloud.client\n")
    (tmp_path / "acme_lost.py").write_text("import acme_nowhere\n")
    dist = tmp_path / "gpuplan_acme-1.2.dist-info"
    dist.mkdir()
    (dist / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: gpuplan-acme\nVersion: 1.2\n"
        'Requires-Dist: gpuplan\nRequires-Dist: acme.cloud[grpc]>=2; extra == "cloud"\n'
    )
    (dist / "entry_points.txt").write_text(
        "[gpuplan.providers]\n"
        "acme = acme_adapter:PROVIDER\n"
        "anvil = acme_adapter:PROVIDER\n"
        "old = acme_adapter:OLD\n"
        "new = acme_adapter:NEW\n"
        "nothing = acme_adapter:NOTHING\n"
        "typo = acme_adapter:PROVIDERS\n"
        "needy = acme_needy:PROVIDER\n"
        "lost = acme_lost:PROVIDER\n"
        "local = acme_adapter:PROVIDER\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    # Not the cached one: other tests must not see the package.
    return provider_types.__wrapped__()


def refusal(types: Mapping[str, ProviderType], name: str) -> Diagnostic:
    with pytest.raises(GpuplanError) as caught:
        types[name]
    return caught.value.diagnostics[0]


def test_our_own_types_come_by_the_same_door() -> None:
    assert "processes on this machine" == provider_types()["local"].title


def test_names_are_known_without_importing_an_adapter(installed: Mapping[str, ProviderType]) -> None:
    names = set(installed)

    assert {"acme", "anvil", "needy", "local"} <= names
    assert "acme_adapter" not in sys.modules
    assert "acme" in installed


def test_an_alias_is_another_entry_point(installed: Mapping[str, ProviderType]) -> None:
    assert installed["acme"] is installed["anvil"]


def test_nobody_takes_over_a_name_of_ours(installed: Mapping[str, ProviderType]) -> None:
    assert "processes on this machine" == installed["local"].title


@pytest.mark.parametrize("name", ["acme_adapter:PROVIDER", "acme_adapter:Acme"])
def test_any_object_is_reached_by_its_path(installed: Mapping[str, ProviderType], name: str) -> None:
    assert name in installed
    assert "Acme" == installed[name].title


def test_an_unknown_name_is_a_key_error(installed: Mapping[str, ProviderType]) -> None:
    assert "nosuch" not in installed
    with pytest.raises(KeyError):
        installed["nosuch"]


def test_a_missing_package_names_the_extra_that_brings_it(installed: Mapping[str, ProviderType]) -> None:
    # `acme_cloud` is what is imported, `acme.cloud` what is installed.
    found = refusal(installed, "needy")

    assert "provider-extra-missing" == found.id
    assert "provider type `needy` needs a package that is not installed" == found.summary
    assert ("pip install 'gpuplan-acme[cloud]'",) == found.commands


def test_a_missing_package_without_an_extra_is_named_itself(installed: Mapping[str, ProviderType]) -> None:
    assert ("pip install acme_nowhere",) == refusal(installed, "lost").commands


@pytest.mark.parametrize(("name", "hint"), [("old", "upgrade the package `gpuplan-acme`"), ("new", "upgrade gpuplan")])
def test_another_contract_version_names_what_to_upgrade(
    installed: Mapping[str, ProviderType], name: str, hint: str
) -> None:
    found = refusal(installed, name)

    assert ("provider-api-version", hint) == (found.id, found.hint)
    assert "it comes from the package `gpuplan-acme` 1.2" in found.facts


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("nothing", "`acme_adapter:NOTHING` is neither a ProviderType nor has one as PROVIDER"),
        ("typo", "`acme_adapter:PROVIDERS` names nothing that can be imported"),
        ("no_such_module:PROVIDER", "there is no module `no_such_module`"),
        ("acme_adapter:", "`acme_adapter:` names nothing that can be imported"),
        (":x", "`:x` names nothing that can be imported"),
    ],
)
def test_what_is_no_provider_type_says_so(installed: Mapping[str, ProviderType], name: str, fact: str) -> None:
    found = refusal(installed, name)

    assert "provider-type-unusable" == found.id
    assert fact in found.facts
