"""What runs, in which order. The only home of Prefect."""
