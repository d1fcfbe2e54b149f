"""One file per verb: `SPEC` (its arguments as data) and `run(args) -> exit status`."""
