"""One file per protocol: requests, responses, errors."""
