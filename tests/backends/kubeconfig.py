"""A kubeconfig for the emulated cluster."""

from typing import Any


def kubeconfig(ports: set[int]) -> dict[str, Any]:
    """The same cluster through several ports, each a context of its own."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": f"port-{port}", "cluster": {"server": f"http://127.0.0.1:{port}/kubernetes"}} for port in ports
        ],
        "users": [{"name": "me", "user": {"token": "a-token"}}],
        "contexts": [
            {"name": f"port-{port}", "context": {"cluster": f"port-{port}", "user": "me", "namespace": "default"}}
            for port in ports
        ],
        "current-context": f"port-{min(ports)}",
    }
