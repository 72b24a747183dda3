"""Continuing a text: what a model must offer, how its next token is chosen, and when it stops."""
