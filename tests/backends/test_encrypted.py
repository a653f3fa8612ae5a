"""Every backend keeps its promises behind the layer of encryption, on the same servers."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpuplan.core.ports import Clock, StateBackend
from gpuplan.state.encryption import EncryptedBackend
from gpuplan.state.encryption_keys import COMMAND, keys_of
from gpuplan.state.registry import Opening, place_of_url
from gpuplan.testing.backend_conformance import BackendConformance
from gpuplan.testing.backend_place import Place
from tests.backends import http_server, postgres_server, s3_server
from tests.backends.kubeconfig import kubeconfig

KEYS = {"PATH": "/usr/bin:/bin", COMMAND: f"printf {'k' * 43}="}


class Encrypted(BackendConformance):
    environ: Mapping[str, str]
    url: str

    @contextmanager
    def open_place(self, folder: Path) -> Iterator[Place]:
        name = re.sub("[^a-z0-9]", "", folder.name.lower())[-36:]
        place, keys = place_of_url(self.url.format(name=f"e{name}"), self.environ), keys_of(KEYS, folder)

        def opened(clock: Clock) -> StateBackend:
            return EncryptedBackend(place.open(Opening("default", clock, self.environ, folder)), keys)

        yield opened


class TestS3(Encrypted):
    @pytest.fixture(autouse=True)
    def served(self, s3: int) -> None:
        self.environ = s3_server.ENVIRON
        self.url = f"s3://{s3_server.BUCKET}/{{name}}?endpoint=http://127.0.0.1:{s3}"


class TestPostgres(Encrypted):
    @pytest.fixture(autouse=True)
    def served(self, postgres: int) -> None:
        self.environ = postgres_server.ENVIRON
        self.url = f"postgres://127.0.0.1:{postgres}/postgres/{{name}}"


class TestHttp(Encrypted):
    keeps = 0

    @pytest.fixture(autouse=True)
    def served(self, http_423: http_server.States) -> None:
        self.environ = http_server.ENVIRON
        self.url = f"http://127.0.0.1:{http_423.server_port}/{{name}}"


class TestKubernetes(Encrypted):
    @pytest.fixture(autouse=True)
    def served(self, kubernetes: int, tmp_path_factory: pytest.TempPathFactory) -> None:
        config = tmp_path_factory.mktemp("kube") / "config"
        config.write_text(json.dumps(kubeconfig({kubernetes})))
        self.environ = {"KUBECONFIG": str(config)}
        self.url = f"kubernetes://default/{{name}}?context=port-{kubernetes}"
