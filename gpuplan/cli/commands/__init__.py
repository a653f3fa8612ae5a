"""One module per verb: `arguments` says what it takes, `run` wires it to `workflow` and a renderer. No logic."""
