"""One file per kind of fine-tuning: encode, head, loss, score."""
