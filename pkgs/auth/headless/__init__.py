"""Headless logins: requests that wait in memory, and their approval by the user they are for. Nothing of them
is stored: they live for minutes, and their certificates for one."""
