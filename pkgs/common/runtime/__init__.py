"""A process's life: config file, logging, signals, readiness, metrics, the debug service, systemd."""
