"""Redis from the machine's own ``redis-server``, with its append-only file on."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

from load_tests.servers.process import Say, ServerFailed, ServerProcess, free_port, silent


class LocalRedis(ServerProcess):
    """A Redis on a free loopback port. ``appendfsync`` is ``everysec`` or ``always``."""

    name = "redis"
    #: A gigabyte of states takes ten seconds to load, and longer where others use the machine.
    start_timeout_s = 120

    def __init__(
        self, folder: Path | None = None, *, port: int | None = None, appendfsync: str = "everysec", say: Say = silent
    ) -> None:
        """Prepare a Redis under ``folder``."""
        super().__init__(folder, say=say)
        self.port = port or free_port()
        self._appendfsync = appendfsync
        self._program = ""

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def version(self) -> str:
        """The running server's own word."""
        answer = self._ask(b"INFO server\r\n", 4096).decode(errors="replace")
        for line in answer.splitlines():
            if line.startswith("redis_version:"):
                return line.partition(":")[2].strip()
        raise ServerFailed(f"Redis at {self.url} does not tell its version.")

    def prepare(self) -> None:
        """Find ``redis-server``, installing it where that is allowed."""
        self._program = self._program or redis_server(self.say)

    def options(self) -> dict[str, str]:
        """Return what the server is told."""
        return {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": self._appendfsync,
            "save": "",
            "daemonize": "no",
        }

    def command(self) -> list[str]:
        """Return the command line."""
        return [self._program, *(part for name, value in self.options().items() for part in (f"--{name}", value))]

    def ready(self) -> bool:
        """Return whether it answers PING (not while it reads its append-only file)."""
        try:
            return self._ask(b"PING\r\n", 16).startswith(b"+PONG")
        except OSError:
            return False

    def _ask(self, command: bytes, size: int) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
            connection.sendall(command)
            return connection.recv(size)


def redis_server(say: Say = silent) -> str:
    """Return the path of ``redis-server``; as root on Debian install it when it is missing."""
    if found := shutil.which("redis-server"):
        return found
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise ServerFailed(
            "redis-server is not installed. Install it (Debian: apt-get install redis-server), "
            "start a container engine, or set REDIS_URL."
        )
    say("Installing redis-server with apt-get ...")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (["update"], ["install", "-y", "--no-install-recommends", "redis-server"]):
        done = subprocess.run(["apt-get", "-q", *step], capture_output=True, text=True, env=environment, check=False)
    if found := shutil.which("redis-server"):
        return found
    raise ServerFailed(f"apt-get could not install redis-server:\n{done.stderr[-2000:]}")
