"""Optimizers that torch and DeepSpeed do not have, one file each, and what they share."""
