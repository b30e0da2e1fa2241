"""Connectors: how an action reaches the world. A library of its own; it knows nothing of the engine."""
