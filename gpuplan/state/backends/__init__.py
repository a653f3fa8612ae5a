"""Places where a state can live, one module each, all behind `core.ports.StateBackend`."""
