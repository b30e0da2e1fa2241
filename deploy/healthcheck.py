"""Exit 0 when the process in this container answers at HEALTH_URL, else 1 with the cause on standard error.

``http://…`` must answer with a status under 400; ``tcp://host:port`` must accept a connection. Only the standard
library is used, so that the check still runs when the application cannot be imported.
"""

from __future__ import annotations

import os
import socket
import sys
import urllib.request
from urllib.parse import urlsplit

TIMEOUT_S = 4


def check(url: str) -> None:
    """Return when ``url`` answers within four seconds; raise OSError or ValueError with the cause otherwise."""
    parts = urlsplit(url)
    match parts.scheme:
        case "http":
            # No proxy of the environment may stand between a container and itself.
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(url, timeout=TIMEOUT_S):
                return
        case "tcp":
            with socket.create_connection((parts.hostname, parts.port or 0), timeout=TIMEOUT_S):
                return
        case _:
            raise ValueError(f"HEALTH_URL is {url!r}; it starts with http:// or tcp://")


def main() -> int:
    """Check the URL of the environment and report as an exit code."""
    url = os.environ.get("HEALTH_URL", "http://127.0.0.1:8080/readyz")
    try:
        check(url)
    except (OSError, ValueError) as cause:
        sys.stderr.write(f"{url}: {cause}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
