"""`ssh` keeps the contract of every provider, on real shells behind real servers."""

from gpuplan.testing.contracts.ssh import SshContract


class TestSsh(SshContract):
    """Three machines with a GPU each."""
