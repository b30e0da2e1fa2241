"""Runs the receiver: ``python -m connectors.receiver --port 8090 --record calls.jsonl``."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from connectors.receiver.app import KEEP_DEFAULT, create_app


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until interrupted. Exits with 2 when the options or the secret are wrong."""
    parser = _parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        app = create_app(
            record_path=options.record,
            secret=_variable(options.secret_env),
            token=_variable(options.token_env),
            keep=options.keep,
            host_names=(options.host, *options.host_name),
        )
    except (ValueError, OSError) as error:
        parser.error(str(error))
    logging.getLogger("connectors.receiver").info("what arrives is shown at http://%s:%d/", options.host, options.port)
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning", access_log=False, ws="none")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m connectors.receiver", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to bind to (default: %(default)s)")
    parser.add_argument(
        "--host-name", action="append", default=[], help="name that it is called by, beside localhost; may be repeated"
    )
    parser.add_argument("--port", type=int, default=8090, help="port (default: %(default)s)")
    parser.add_argument("--record", type=Path, help="file that every first arrival is appended to, as JSON lines")
    parser.add_argument("--keep", type=int, default=KEEP_DEFAULT, help="arrivals kept readable (default: %(default)s)")
    parser.add_argument("--secret-env", default="", help="environment variable with the whsec_ secret of webhooks")
    parser.add_argument("--token-env", default="", help="environment variable with the bearer token of calls")
    return parser


def _variable(name: str) -> str:
    """An unset variable must not quietly turn a check off."""
    if name and not os.environ.get(name):
        raise ValueError(f"the environment variable {name} is not set")
    return os.environ[name] if name else ""


if __name__ == "__main__":
    main()
