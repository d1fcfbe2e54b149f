"""`tsh latency`."""
