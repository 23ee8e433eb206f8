"""Platforms on loopback: servers that behave as the real ones do, faults included. For tests, demos and trials."""
