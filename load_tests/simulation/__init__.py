"""Harness A: the whole engine in small deterministic worlds in which everything goes wrong, by seed."""
