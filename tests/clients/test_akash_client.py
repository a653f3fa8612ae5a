"""Akash's own SDK, `@akashnetwork/chain-sdk`, takes our SDLs, and makes the manifest of them that we do; so does the
emulator.

It comes from npm, into a folder of this run. On a machine without Node.js and npm, or that does not reach the registry,
only the SDK's published vectors judge them: the tests say so, and prove nothing.
"""

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gpuplan.core.kinds import NodeAttrs
from gpuplan.core.values import Value
from gpuplan.emulators import akash_sdl as emulated
from gpuplan.providers.akash_manifest import hash_of, to_manifest
from gpuplan.providers.akash_sdl import Registry, text_of, to_sdl

PACKAGE = "@akashnetwork/chain-sdk@1.0.0-alpha.25"
RUNTIMES = ["node" if shutil.which("node") and shutil.which("npm") else "no Node.js"]
UNREACHABLE = ("EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ENETUNREACH", "ENOTFOUND", "ETIMEDOUT")
PATIENCE_SECONDS = 100
DRIVER = """
import { readFileSync } from "node:fs";
import { generateManifest, generateManifestVersion, manifestToSortedJSON, validateSDL } from "@akashnetwork/chain-sdk";
const told = [];
for (const sdl of JSON.parse(readFileSync(process.argv[2], "utf8"))) {
  const errors = validateSDL(sdl, "mainnet") ?? [];
  const made = errors.length ? null : generateManifest(sdl, "mainnet");
  const groups = made && made.ok ? made.value.groups : null;
  const hash = groups && Buffer.from(await generateManifestVersion(groups)).toString("base64");
  told.push({errors: made && !made.ok ? made.value : errors, manifest: groups && manifestToSortedJSON(groups), hash});
}
console.log(JSON.stringify(told));
"""
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpBYoKqHmF3jr7xkmI9YvNMM2bIXcSJ8vMfQ2vFKq1t ana@example.com"
NODES: Mapping[str, Mapping[str, Value]] = {
    "nothing is said": {},
    "a GPU by form and memory": {"gpu": "A100-40GB-PCIE:4", "image": "ubuntu:24.04", "ssh_keys": [KEY, KEY]},
    "half a core": {"cpu": 0.5, "memory_gb": 1.5, "disk_gb": 7},
    "ports of every kind": {"ports": [8000, "53/udp", "8080/http", "9090/http"]},
    "what HTML would take for its own": {"env": {"A": "<&>", "B": "é\n"}, "command": "echo '<hi>' && sleep 9"},
    "a command in words": {"image": "acme/trainer:7", "command": ["python", "-c", "print(1)"]},
    "disks": {"shm_gb": 8, "options": {"persistent_gb": 200, "persistent_class": "beta2"}},
    "whom to ask": {"region": "us-west", "options": {"attributes": {"tier": "community"}, "auditors": ["akash1aud"]}},
    "a private image": {"image": "ghcr.io/acme/api:1"},
}


@pytest.fixture(scope="module", params=RUNTIMES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """Where the SDK is installed; None where it cannot be."""
    if request.param != "node":
        return None
    folder = tmp_path_factory.mktemp("npm")
    command = ["npm", "install", PACKAGE, "--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts"]
    installed = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    if installed.returncode != 0 and any(code in installed.stderr for code in UNREACHABLE):
        return None
    assert 0 == installed.returncode, installed.stderr
    return folder


def judged(folder: Path, sdls: list[Any]) -> list[dict[str, Any]]:
    """What the SDK says of each."""
    script, given = folder / "story.mjs", folder / "sdls.json"
    script.write_text(DRIVER)
    given.write_text(json.dumps(sdls))
    command = [shutil.which("node") or "node", str(script), str(given)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert 0 == told.returncode, told.stderr
    answer: list[dict[str, Any]] = json.loads(told.stdout)
    return answer


def test_sdls_are_accepted_and_their_manifests_are_foreseen(
    folder: Path | None, capsys: pytest.CaptureFixture[str]
) -> None:
    if folder is None:
        with capsys.disabled():
            print("\nakash: not judged by `@akashnetwork/chain-sdk`, which npm could not install")
        return
    registry = Registry(host="ghcr.io", username="ana", password="hunter22")
    sdls = [
        to_sdl(NodeAttrs.of(attrs), f"gpuplan-train-0-t{n:019}", hourly=12.5, registry=registry)
        for n, attrs in enumerate(NODES.values())
    ]

    for name, sdl, told in zip(NODES, sdls, judged(folder, sdls), strict=True):
        assert [] == told["errors"], name
        assert json.loads(told["manifest"]) == json.loads(to_manifest(sdl)), name
        assert told["hash"] == hash_of(to_manifest(sdl)), name
        assert told["hash"] == emulated.hash_of(emulated.manifest_of(emulated.read_sdl(text_of(sdl)))), name
