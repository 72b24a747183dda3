"""Published quality rules: the figures they compare, and one file of limits for each set."""
