"""Roles: composition roots. Each puts adapters behind the ports and runs until it is told to stop."""
