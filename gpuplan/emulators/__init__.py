"""Providers that cost nothing: the same routes, payloads, errors and delays, on a clock and with faults of our choice.

Written from the vendors' documentation, never from our adapters. `serve` puts them on a port; `world.World` is what
they all share.
"""
