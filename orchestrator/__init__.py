"""A real-time customer-journey orchestration engine: events in, next best actions out."""

__version__ = "0.1.0"
