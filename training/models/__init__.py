"""One file per family: the paper, its config, its published sizes, its module."""
