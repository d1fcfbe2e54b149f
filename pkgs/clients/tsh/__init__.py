"""`tsh`: the user's command line. Lean: a verb's imports are its own (see `main`)."""
