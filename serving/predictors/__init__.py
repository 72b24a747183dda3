"""Plain classes that answer: prepare, run, finish. No Ray, no HTTP."""
