import subprocess
import sys
from pathlib import Path

import pytest

from gpuplan.core.errors import StateError
from gpuplan.state.registry import Opening, backend_type, place_of_url
from gpuplan.testing.clock import FakeClock

URLS = [
    ("state", "state"),
    ("/srv/state", "/srv/state"),
    ("file:shared/state", "shared/state"),
    ("s3://bucket/team/train", "s3://bucket/team/train"),
    ("s3://bucket/train?region=eu-west-1", "s3://bucket/train?region=eu-west-1"),
    (
        "s3://bucket/train?endpoint=http://127.0.0.1:9000",
        "s3://bucket/train?endpoint=http%3A%2F%2F127.0.0.1%3A9000",
    ),
    ("postgres://db:5433/infra/train", "postgres://db:5433/infra/train"),
    ("postgresql://ana@db/infra/train?sslmode=verify-full", "postgres://ana@db/infra/train?sslmode=verify-full"),
    ("https://states/train?lock_method=PUT", "https://states/train?lock_method=PUT"),
    ("http://127.0.0.1:8080/{workspace}", "http://127.0.0.1:8080/{workspace}"),
    ("kubernetes://infra/train?context=prod", "kubernetes://infra/train?context=prod"),
]


def opening(workspace: str = "default") -> Opening:
    return Opening(workspace, FakeClock(), {}, Path("project"))


@pytest.mark.parametrize(("given", "canonical"), URLS)
def test_place_says_the_url_that_means_the_same(given: str, canonical: str) -> None:
    place = place_of_url(given, {})

    assert canonical == place.url
    assert place.options == place_of_url(place.url, {}).options


@pytest.mark.parametrize("url", ["postgres://ana:s3cret@db/infra/train", "https://ana:s3cret@states/train"])
def test_password_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(StateError) as caught:
        place_of_url(url, {})

    assert "credentials-in-url" == caught.value.diagnostics[0].id
    assert "s3cret" not in str(caught.value.diagnostics)


@pytest.mark.parametrize(
    ("url", "fact"),
    [
        ("s3://bucket", "`state` needs `prefix`"),
        ("s3://bucket/train?acces_key=x", "`state` has no field `acces_key`"),
        ("postgres://db/infra", "`state` needs `schema`"),
        ("kubernetes://infra/Train", "`state.name` must be written"),
    ],
)
def test_url_that_says_too_little_or_too_much_is_refused(url: str, fact: str) -> None:
    with pytest.raises(StateError) as caught:
        place_of_url(url, {})

    (finding,) = caught.value.diagnostics
    assert "state-url" == finding.id
    assert [True] == [each.startswith(fact) for each in finding.facts]


def test_unknown_type_names_the_nearest() -> None:
    with pytest.raises(StateError) as caught:
        backend_type("postgress")

    assert "did you mean `postgres`?" == caught.value.diagnostics[0].hint


def test_relative_folder_counts_from_the_project() -> None:
    assert "project/shared/default.json" == place_of_url("shared", {}).open(opening()).location


@pytest.mark.parametrize(
    "url", ["shared", "s3://bucket/train", "postgres://db/infra/train", "kubernetes://infra/train"]
)
def test_workspace_that_could_leave_its_place_is_refused(url: str) -> None:
    with pytest.raises(StateError, match="cannot be the name of a workspace"):
        place_of_url(url, {}).open(opening("../default"))


def test_location_names_no_credentials() -> None:
    environ = {"AWS_ACCESS_KEY_ID": "AKIAKEY", "AWS_SECRET_ACCESS_KEY": "s3cret", "PGPASSWORD": "s3cret"}
    for url in ("s3://bucket/train", "postgres://ana@db/infra/train"):
        backend = place_of_url(url, environ).open(Opening("default", FakeClock(), environ, Path()))

        assert "s3cret" not in backend.location
        assert "AKIAKEY" not in backend.location


def test_profile_of_aws_without_keys_says_how_to_export_them() -> None:
    environ = {"AWS_PROFILE": "prod"}
    with pytest.raises(StateError) as caught:
        place_of_url("s3://bucket/train", environ).open(Opening("default", FakeClock(), environ, Path()))

    assert "aws configure export-credentials" in str(caught.value.diagnostics[0].hint)


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("s3://bucket/train", "obstore", "s3"),
        ("postgres://db/infra/train", "asyncpg", "postgres"),
        ("https://states/train", "httpx", "http"),
        ("kubernetes://infra/train", "kubernetes", "kubernetes"),
    ],
)
def test_missing_package_names_its_extra(url: str, module: str, extra: str) -> None:
    program = f"""
import sys
from pathlib import Path
sys.modules[{module!r}] = None
from gpuplan.core.errors import StateError
from gpuplan.net.clock import SystemClock
from gpuplan.state.registry import Opening, place_of_url
try:
    place_of_url({url!r}, {{}}).open(Opening("default", SystemClock(), {{}}, Path()))
except StateError as exc:
    print(*exc.diagnostics[0].commands)
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)

    assert f"pip install 'gpuplan[{extra}]'\n" == told.stdout, told.stderr
