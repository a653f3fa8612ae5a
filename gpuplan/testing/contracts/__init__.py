"""What the conformance kit asks of each provider type: a subclass of `ProviderConformance` per type.

Named by the entry-point group `gpuplan.conformance`, as those of other packages are; `gpuplan.testing.catalog` finds
them.
"""

PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpBYoKqHmF3jr7xkmI9YvNMM2bIXcSJ8vMfQ2vFKq1t team@example.com"
"""Of nobody: a key of the right form."""
