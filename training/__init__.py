"""Tokens to models."""
