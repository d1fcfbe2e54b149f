"""What the end-to-end tests and the benchmarks share: a real cluster of real processes on loopback."""
