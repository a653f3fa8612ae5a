"""Reading the spec: YAML text in, a checked and expanded `Configuration` out. `load` is the door."""
