"""One file per kind of source; each yields documents."""
