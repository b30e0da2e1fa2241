"""A local receiver: takes calls and webhooks as a real system behind a connector would, and shows what arrived."""

from connectors.receiver.app import create_app

__all__ = ["create_app"]
