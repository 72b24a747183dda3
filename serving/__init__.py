"""Models to answers."""
