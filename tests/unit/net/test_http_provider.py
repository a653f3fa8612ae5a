import subprocess
import sys

import pytest

from gpuplan.core.desired import ProviderBlock
from gpuplan.core.errors import NoCredentials
from gpuplan.core.ports import OpenContext
from gpuplan.core.secret import Redactor
from gpuplan.net.exchange import Outgoing, Response
from gpuplan.net.http_provider import THROWAWAY_KEY
from gpuplan.providers.vultr import PROVIDER
from gpuplan.testing.clock import FakeClock
from gpuplan.testing.in_process import InProcessWire, with_wire


class Listener(InProcessWire):
    """Notes where requests would go, and with which key."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    async def send(self, outgoing: Outgoing, timeout_seconds: float) -> Response:
        self.heard.append((outgoing.url, outgoing.headers["Authorization"]))
        return Response(200, {}, b'{"account": {"email": "a@b.test"}}')


def heard(environ: dict[str, str], *, emulator: str | None = None, **options: str) -> tuple[str, str]:
    """URL and proof of the first request of an account that is opened so."""
    clock, listener = FakeClock(), Listener()
    context = OpenContext(ProviderBlock("mine", "vultr", options, ()), clock, environ, Redactor(), emulator)

    async def main() -> None:
        provider = with_wire(PROVIDER, listener).open(PROVIDER.options.model_validate(options), context)
        await provider.health()

    clock.run(main())
    return listener.heard[0]


def test_the_providers_own_address_and_variable() -> None:
    assert ("https://api.vultr.com/v2/account", "Bearer k") == heard({"VULTR_API_KEY": "k"})


def test_a_variable_of_the_providers_tools_names_another_address() -> None:
    environ = {"VULTR_API_KEY": "k", "VULTR_API_ENDPOINT": "http://elsewhere.test/v2/"}

    assert "http://elsewhere.test/v2/account" == heard(environ)[0]
    assert "http://block.test/account" == heard(environ, endpoint="http://block.test")[0]


def test_an_emulator_gets_the_path_of_the_real_one_and_never_a_real_key() -> None:
    url, proof = heard(
        {"VULTR_API_KEY": "real"}, emulator="http://127.0.0.1:8900/", key="real", endpoint="http://x.test"
    )

    assert "http://127.0.0.1:8900/vultr/v2/account" == url
    assert f"Bearer {THROWAWAY_KEY}" == proof


def test_a_second_account_never_falls_back_on_the_first_ones_key() -> None:
    assert "Bearer b" == heard({"VULTR_API_KEY": "a", "OTHER_KEY": "b"}, key_env="OTHER_KEY")[1]
    with pytest.raises(NoCredentials):
        heard({"VULTR_API_KEY": "a", "HOME": "/nonexistent"}, key_env="OTHER_KEY")


def test_reading_a_block_does_not_load_what_only_calls_need() -> None:
    names = {"asyncio", "httpx", "logging", "ssl"}
    code = f"import sys, gpuplan.providers.vultr; print(*({names} & sys.modules.keys()))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert "" == loaded.stdout.strip()
