"""The receiver's role: the connectors library's receiver under our settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from connectors.receiver.app import create_app
from orchestrator.gateway.server import GatewayServer
from orchestrator.settings import Settings


async def run_receiver(settings: Settings, record: Path | None, *, on_ready: Callable[[str], None]) -> None:
    """Serve until cancelled; ``record`` keeps what arrived over restarts."""
    async with GatewayServer(create_app(record_path=record), settings.host, settings.receiver_port) as server:
        on_ready(server.url)
        await server.wait()
