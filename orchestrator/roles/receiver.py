"""The receiver's role: the connectors library's receiver, and what it shares with an engine in the same process."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from starlette.applications import Starlette

from connectors.receiver.app import create_app
from connectors.receiver.arrivals import RecordUnreadable
from connectors.receiver.reports import Reports
from connectors.signature import SECRET_PREFIX, parse_secrets
from orchestrator.errors import ConfigurationError
from orchestrator.gateway.server import GatewayServer
from orchestrator.roles.data_folder import SECRET
from orchestrator.settings import Settings

SECRET_BYTES = 32
#: What ``callback_secret_env`` of the shipped connectors is read from, and the variable that it then names.
SECRET_NAMED_BY, SECRET_VARIABLE = "RECEIVER_SECRET_ENV", "RECEIVER_SECRET"


async def run_receiver(settings: Settings, record: Path | None, *, on_ready: Callable[[str], None]) -> None:
    """Serve until cancelled; ``record`` keeps what arrived over restarts."""
    app = receiver_app(record_path=record, host_names=(settings.host, *settings.host_names))
    async with GatewayServer(app, settings.host, settings.receiver_port, port_named="--port") as server:
        on_ready(server.url)
        await server.wait()


def receiver_app(
    *, record_path: Path | None, reports: Reports | None = None, host_names: Iterable[str] = ()
) -> Starlette:
    """Return the receiver's application; raise ``ConfigurationError`` when it cannot keep its record."""
    try:
        return create_app(record_path=record_path, reports=reports, host_names=host_names)
    except RecordUnreadable as error:
        raise ConfigurationError(f"{error} Mend or remove it: it only remembers what was shown.") from None
    except OSError as error:
        why = error.strerror or error
        raise ConfigurationError(
            f"The receiver's record {record_path} cannot be written ({why}). Mend it, or name another."
        ) from None


def shared_environment(data: Path, receiver_url: str) -> dict[str, str]:
    """Return what connectors of an engine find in its environment about the receiver beside it.

    The secret that its reports are signed with is made on first use and kept in the data folder, for its owner alone.
    """
    return {
        "RECEIVER_URL": receiver_url,
        SECRET_NAMED_BY: SECRET_VARIABLE,
        SECRET_VARIABLE: _secret(data / SECRET),
    }


def shared_secret(environ: Mapping[str, str]) -> str:
    """Return the secret that the engine takes reports with, "" when it takes none from here."""
    return environ.get(environ.get(SECRET_NAMED_BY, ""), "")


def _secret(path: Path) -> str:
    try:
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
            kept = file.read().decode("latin-1").strip()
            if not kept:  # It is new, or a crash has left it before it was written.
                kept = SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
                file.write(f"{kept}\n".encode())
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be used ({error.strerror}). Remove it; it is made anew.") from None
    try:
        (_,) = parse_secrets(kept)
    except ValueError:
        raise ConfigurationError(f"{path} holds no secret of a receiver. Remove it; it is made anew.") from None
    return kept
