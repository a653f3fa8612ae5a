"""Secrets are planted wherever one can be, every verb is run, and nothing that was printed or written has any of them.

One spec over all types that have an emulator, with a sensitive environment for the nodes of each that takes one.
"""

import base64
import http.client
import io
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

import gpuplan.providers
from gpuplan.cli.main import Streams, run
from gpuplan.cli.verbs import VERBS
from gpuplan.core.desired import Kind
from gpuplan.emulators.catalog import emulator_names
from gpuplan.testing.catalog import contract, contract_names
from gpuplan.testing.specs import crowded_knobs, sample_spec

COMMAND = str(Path(sys.executable).with_name("gpuplan"))
PATIENCE_SECONDS = 100
TYPES = sorted(set(emulator_names()) & set(contract_names()))
CONTRACTS = [contract(name) for name in TYPES]
NODE = re.compile(r"^clusters\.[^\n]*$", re.M)
_CREDENTIAL = re.compile(r'"([A-Z][A-Z0-9]*_[A-Z0-9_]*(?:KEY|TOKEN|SECRET|KEY_ID))"')

PLANTED = {
    "variable": "canary-variable-51c3a9",
    "variable file": "canary-variable-file-7d20be",
    "flag": "canary-flag-e94f17",
    "passphrase": "canary-passphrase-0b86d2",
    "old passphrase": "canary-old-passphrase-c3175e",
    "http state": "canary-http-state-2f9a60",
    "database": "canary-database-88d1b4",
    "bucket": "canary-bucket-5e07fc",
}


def credential_names() -> list[str]:
    """Every variable of the environment that an adapter reads a credential from."""
    sources = Path(gpuplan.providers.__file__).parent.glob("*.py")
    return sorted({name for source in sources for name in _CREDENTIAL.findall(source.read_text(encoding="utf-8"))})


CREDENTIALS = {name: f"canary-{name.lower().replace('_', '-')}-a5" for name in credential_names()}


def forms(secret: str) -> Iterator[str]:
    """A secret as it may turn up: as it is, in a URL, in Base64 wherever it begins."""
    yield secret
    yield quote(secret, safe="")
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + secret.encode()).decode()
        yield encoded[4:-4]


class Witness:
    """A user whose every output and file is kept to be searched."""

    def __init__(self, home: Path, emulator: str) -> None:
        self.project = home / "project"
        self.project.mkdir()
        self.said: dict[str, str] = {}
        self.variables = ["--var-file", "secret.vars.yaml", "--var", f"defaulted={PLANTED['flag']}"]
        self.environ = {
            **CREDENTIALS,
            "HOME": str(home),
            "PATH": "/usr/bin:/bin",
            "GPUPLAN_EMULATOR": emulator,
            "GPUPLAN_VAR_token": PLANTED["variable"],
            "GPUPLAN_HTTP_PASSWORD": PLANTED["http state"],
            "PGPASSWORD": PLANTED["database"],
            "AWS_SECRET_ACCESS_KEY": PLANTED["bucket"],
        }
        (self.project / "secret.vars.yaml").write_text(f"{{filed: {PLANTED['variable file']}}}\n")

    def write(self, *, nodes: int) -> None:
        document = json.loads(sample_spec(CONTRACTS, nodes=nodes))
        document["variables"] = {
            "token": {"type": "string", "sensitive": True},
            "filed": {"type": "string", "sensitive": True},
            "defaulted": {"type": "string", "sensitive": True},
        }
        for name, cluster in document["clusters"].items():
            if takes_env(cluster["provider"]):
                document["clusters"][name]["env"] = {
                    "TOKEN": "${vars.token}",
                    "FILED": "key=${vars.filed}",
                    "LATE": "${vars.defaulted}",
                }
        document["outputs"] = {"token": {"value": "${vars.token}", "sensitive": True}, "count": nodes}
        (self.project / "gpuplan.yaml").write_text(json.dumps(document, indent=2))

    def gpuplan(self, *arguments: str, **environ: str) -> int:
        streams = Streams(io.StringIO(), io.StringIO(), io.StringIO())
        flags = ["-C", str(self.project), *self.variables]
        logged = ["--log-level", "debug", "--log-file", "debug.log", "--debug"]
        code = run([*flags, *logged, *arguments], streams, {**self.environ, **environ})
        text = f"{streams.stdout.getvalue()}\n{streams.stderr.getvalue()}"
        self.said[" ".join(arguments)] = text
        return code

    def begin(self, *arguments: str) -> "subprocess.Popen[bytes]":
        command = [COMMAND, "-C", str(self.project), *self.variables, *arguments]
        return subprocess.Popen(command, env=self.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def written(self) -> Mapping[str, str]:
        """Every file but the one that holds a secret by its purpose."""
        files = [path for path in self.project.parent.rglob("*") if path.is_file() and path.name != "secret.vars.yaml"]
        return {str(path): path.read_text(encoding="utf-8", errors="replace") for path in files}

    def leaks(self) -> list[str]:
        texts = {**self.said, **self.written()}
        secrets = {**PLANTED, **CREDENTIALS}
        return [
            f"{name} in {where}"
            for where, text in texts.items()
            for name, secret in secrets.items()
            if any(form in text for form in forms(secret))
        ]


def takes_env(type: str) -> bool:
    tried = contract(type)
    return Kind.NODE in tried.asks and tried.subject().has_attribute("env")


def test_secret_is_found_in_every_form(tmp_path: Path) -> None:
    user = Witness(tmp_path, "")
    secret = PLANTED["variable"]
    user.said = {
        "plain": f"x{secret}y",
        "encoded": base64.b64encode(f"ab{secret}cd".encode()).decode(),
        "header": base64.b64encode(f"user:{secret}".encode()).decode(),
        "clean": "nothing",
    }

    assert {"plain", "encoded", "header"} == {leak.rpartition(" ")[2] for leak in user.leaks()}


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[str]:
    command = [COMMAND, "emulate", "--providers", ",".join(TYPES), "--port", "0", "--speed", "120", "--json"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as served:
        try:
            assert served.stdout is not None
            url: str = json.loads(served.stdout.readline())["url"]
            for name, tried in zip(TYPES, CONTRACTS, strict=True):
                ask(url, "POST", "knobs", {"provider": name, **crowded_knobs(tried, 6)})
            yield url
            served.send_signal(signal.SIGINT)
            served.wait(PATIENCE_SECONDS)
        finally:
            served.kill()


def ask(url: str, method: str, call: str, body: Mapping[str, object] | None = None) -> str:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE_SECONDS)
    try:
        connection.request(method, f"/_emulator/{call}", None if body is None else json.dumps(body))
        return connection.getresponse().read().decode()
    finally:
        connection.close()


@pytest.mark.timeout(500)
def test_no_planted_secret_is_in_anything_that_the_verbs_print_or_write(tmp_path: Path, emulator: str) -> None:
    user = Witness(tmp_path, emulator)
    user.write(nodes=2)
    assert any(map(takes_env, TYPES)), "nobody would get the secret"

    for arguments in BEFORE:
        user.gpuplan(*arguments)
    with user.begin("apply", "--auto-approve", "--target", "clusters.train-runpod") as killed:
        journal = user.project / "state" / "default-emulator.journal"
        while killed.poll() is None and not (journal.exists() and b'"noted"' in journal.read_bytes()):
            pass
        killed.kill()
    assert journal.exists()
    assert [] == user.leaks()

    assert 0 == user.gpuplan("apply", "--auto-approve"), user.said["apply --auto-approve"]
    user.gpuplan("state", "list")
    nodes = NODE.findall(user.said["state list"])
    for arguments in AFTER:
        user.gpuplan(*(argument.replace("NODE", nodes[0]) for argument in arguments))
    assert "$sealed" in user.said["state pull"], "no secret was sent anywhere"
    user.write(nodes=3)
    user.gpuplan("plan", "--out", "encrypted.plan", GPUPLAN_STATE_PASSPHRASE=PLANTED["passphrase"])
    keys = {
        "GPUPLAN_STATE_PASSPHRASE": PLANTED["passphrase"],
        "GPUPLAN_STATE_OLD_PASSPHRASE": PLANTED["old passphrase"],
    }
    assert 0 == user.gpuplan("apply", "encrypted.plan", **keys)
    assert 1 == user.gpuplan("plan", GPUPLAN_STATE_PASSPHRASE=PLANTED["old passphrase"])
    for type in TYPES:
        ask(emulator, "POST", "faults", {"kind": "status", "provider": type, "status": 401, "times": None})
    assert 1 == user.gpuplan("plan", "--json", **keys)
    user.gpuplan("drift", "--format", "json", **keys)
    ask(emulator, "DELETE", "faults")
    assert 0 == user.gpuplan("destroy", "--auto-approve", **keys)
    assert [] == user.leaks()

    ran = {word for line in user.said for word in line.split()[:1]}
    assert set(VERBS) - ran <= STAYING


BEFORE = [
    ["version"],
    ["completion", "bash"],
    ["validate"],
    ["fmt", "--check"],
    ["providers"],
    ["offers"],
    ["init"],
    ["graph"],
    ["plan"],
    ["plan", "--json"],
    ["plan", "--out", "saved.plan"],
    ["show", "saved.plan"],
    *(["show", "saved.plan", "--format", form] for form in ("json", "markdown", "dot", "mermaid", "html")),
    ["graph", "saved.plan"],
    ["plan", "--var", "token=7", "--var", "unknown=canary"],
    ["plan", "--state", "http://127.0.0.1:9/state", "--lock-timeout", "0"],
    ["plan", "--state", "postgres://127.0.0.1:9/db/schema"],
]
AFTER = [
    ["show"],
    ["show", "--format", "json"],
    ["show", "--format", "markdown"],
    ["output"],
    ["output", "--json"],
    ["state", "show", "NODE"],
    ["state", "show", "NODE", "--json"],
    ["state", "pull"],
    ["state", "verify"],
    ["state", "verify", "--json"],
    ["state", "recover"],
    ["state", "settle"],
    ["state", "mv", "NODE", "clusters.other.nodes[0]"],
    ["state", "mv", "clusters.other.nodes[0]", "NODE"],
    ["state", "rekey"],
    ["state", "migrate", "--to", "elsewhere"],
    ["state", "migrate", "--from", "elsewhere"],
    ["state", "push", "gpuplan.yaml"],
    ["import", "NODE", "no-such-id"],
    ["orphans"],
    ["cost"],
    ["drift"],
    ["plan"],
    ["logs", "NODE"],
    ["ssh", "NODE", "--", "env"],
    ["cp", "gpuplan.yaml", "NODE:copy"],
    ["ssh-config"],
    ["hostfile"],
    ["unlock", "nobody"],
    ["workspace", "list"],
    ["rehearse"],
    ["jobs", "list"],
]
STAYING = {"emulate", "watch", "serve", "forward", "conformance"}
"""Verbs that stay, or that have no more to tell than those above."""
