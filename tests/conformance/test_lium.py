"""`lium` against its emulator: the contract, for both APIs."""

from gpuplan.testing.contracts.lium import LiumContract, LiumRentalsContract


class TestLium(LiumContract):
    """Pods."""


class TestLiumRentals(LiumRentalsContract):
    """Rentals."""
