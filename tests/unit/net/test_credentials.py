from pathlib import Path

import pytest

from gpuplan.core.errors import NoCredentials
from gpuplan.core.secret import Secret
from gpuplan.net.credentials import find_credentials
from gpuplan.net.profile import ConfigFile, Credential

KEY = Credential(
    env=("ACME_KEY", "ACME_API_KEY"),
    files=(
        ConfigFile("$XDG_CONFIG_HOME/acme.yaml", "api-key"),
        ConfigFile("~/.acme.toml", "default.key"),
        ConfigFile("~/.acme.json", lambda content: content["keys"][0] if isinstance(content, dict) else None),
        ConfigFile("~/.acme.ini", "api.key"),
        ConfigFile("~/.acme-key"),
    ),
    get_one_at="https://acme.test/keys",
)


def found(environ: dict[str, str], given: dict[str, Secret] | None = None) -> str:
    return find_credentials({"key": KEY}, given or {}, environ, provider="acme")["key"].reveal()


def test_the_block_comes_before_the_environment() -> None:
    assert "given" == found({"ACME_KEY": "b"}, {"key": Secret("given")})


def test_variables_are_tried_in_order_and_blanks_are_none() -> None:
    assert "b" == found({"ACME_KEY": " ", "ACME_API_KEY": "b\n"})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (".config/acme.yaml", "api-key: k\n"),
        (".acme.toml", '[default]\nkey = "k"\n'),
        (".acme.json", '{"keys": ["k"]}'),
        (".acme.ini", "[api]\nkey = k\n"),
        (".acme-key", "k\n"),
    ],
)
def test_files_of_the_providers_own_tools_are_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / ".config").mkdir()
    (tmp_path / name).write_text(text)

    assert "k" == found({"HOME": str(tmp_path)})


def test_a_file_that_does_not_parse_holds_no_key(tmp_path: Path) -> None:
    (tmp_path / ".acme.toml").write_text("[[[")
    (tmp_path / ".acme.ini").write_text("key = without a section")
    (tmp_path / ".acme-key").write_text("k")

    assert "k" == found({"HOME": str(tmp_path)})


def test_a_missing_key_says_where_it_was_looked_for_and_where_to_get_one() -> None:
    with pytest.raises(NoCredentials) as caught:
        found({"HOME": "/nonexistent"})

    (diagnostic,) = caught.value.diagnostics
    assert "no-credentials" == diagnostic.id
    assert "set `ACME_KEY`; keys are made at https://acme.test/keys" == diagnostic.hint
    assert diagnostic.facts[0].startswith("looked for it in `ACME_KEY`, `ACME_API_KEY`, `$XDG_CONFIG_HOME/acme.yaml`")


def test_what_is_not_required_may_be_missing() -> None:
    optional = Credential(env=("ACME_EXTRA",), required=False)

    assert {} == find_credentials({"extra": optional}, {}, {}, provider="acme")
