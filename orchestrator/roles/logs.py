"""Log lines: text for people, JSON for collectors. No line ever holds a secret or a customer's properties."""

from __future__ import annotations

import logging
import sys

import msgspec

from orchestrator.core.moment import format_moment


class _JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "at": format_moment(round(record.created * 1000)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def configure_logs(form: str) -> None:
    """Send log lines to standard error in the form ``text`` or ``json``; third-party libraries only warn."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _JsonLines() if form == "json" else logging.Formatter("%(asctime)s %(levelname)-7s %(name)s  %(message)s")
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for ours in ("orchestrator", "connectors"):
        logging.getLogger(ours).setLevel(logging.INFO)
