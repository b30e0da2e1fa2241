"""Providers as they answer: small servers on loopback that check what a real one checks, for tests and loads."""
