"""Text to tokens, with numpy and Arrow only."""
