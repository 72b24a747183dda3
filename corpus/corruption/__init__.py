"""One file per objective: what the model reads and what it must predict, as pure functions."""
