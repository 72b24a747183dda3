"""The ground: storage, artifacts, leases, Ray, hardware. Imports nothing of ours."""
