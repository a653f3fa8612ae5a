"""Wiring: spec, state, providers, planner and engine put together once, for the command line and for tests."""
