"""The receiver's role: the connectors library's receiver, and what it shares with an engine in the same process."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from connectors.receiver.app import create_app
from connectors.signature import SECRET_PREFIX
from orchestrator.gateway.server import GatewayServer
from orchestrator.settings import Settings

SECRET_FILE = "receiver-secret"
SECRET_BYTES = 32
#: What ``callback_secret_env`` of the shipped connectors is read from, and the variable that it then names.
SECRET_NAMED_BY, SECRET_VARIABLE = "RECEIVER_SECRET_ENV", "RECEIVER_SECRET"


async def run_receiver(settings: Settings, record: Path | None, *, on_ready: Callable[[str], None]) -> None:
    """Serve until cancelled; ``record`` keeps what arrived over restarts."""
    app = create_app(record_path=record, host_names=(settings.host, *settings.host_names))
    async with GatewayServer(app, settings.host, settings.receiver_port) as server:
        on_ready(server.url)
        await server.wait()


def shared_environment(data: Path, receiver_url: str) -> dict[str, str]:
    """Return what connectors of an engine find in its environment about the receiver beside it.

    The secret that its reports are signed with is made on first use and kept in the data folder, for its owner alone.
    """
    return {
        "RECEIVER_URL": receiver_url,
        SECRET_NAMED_BY: SECRET_VARIABLE,
        SECRET_VARIABLE: _secret(data / SECRET_FILE),
    }


def shared_secret(environ: Mapping[str, str]) -> str:
    """Return the secret that the engine takes reports with, "" when it takes none from here."""
    return environ.get(environ.get(SECRET_NAMED_BY, ""), "")


def _secret(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text(encoding="ascii").strip()
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        made = SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
        file.write(f"{made}\n")
    return made
