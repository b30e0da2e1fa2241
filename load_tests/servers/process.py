"""One server as a child process: start, stop, kill -9, pause, restart; data survive everything but ``close``."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

Say = Callable[[str], None]


def silent(_message: str) -> None:
    """Tell nobody: the default of every ``say``."""


class ServerFailed(Exception):
    """A server did not start, or something that it needs is missing; the message says what and where its log is."""


def free_port() -> int:
    """Return a loopback port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServerProcess(ABC):
    """The life of one server.

    Ports and data folder stay the same over ``kill`` and ``start``. A folder that was not given is made in the
    system's place for temporary files and removed by ``close``. Used as a context manager it is started and closed.
    """

    name: str
    start_timeout_s: float = 60

    def __init__(self, folder: Path | None = None, *, say: Say = silent) -> None:
        """Prepare a server that keeps its data under ``folder``; ``say`` hears what it is doing."""
        self._temporary = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix=f"journey-{self.name}-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False
        #: How the last process ended; negative for a signal.
        self.exit_code: int | None = None

    # ------------------------------------------------------------------------ what a server has to say

    @abstractmethod
    def prepare(self) -> None:
        """Do what must precede the first start; called before every start."""

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command line of the server in the foreground."""

    @abstractmethod
    def ready(self) -> bool:
        """Return whether the server answers its clients now."""

    def environment(self) -> Mapping[str, str] | None:
        """Return the server's environment; None is this process's own."""
        return None

    # ----------------------------------------------------------------------------------------- the life

    @property
    def log_path(self) -> Path:
        """Where the server's output goes."""
        return self.folder / f"{self.name}.log"

    @property
    def pid(self) -> int:
        """The running server's process id; raises ``ServerFailed`` when it does not run."""
        if self._process is None or self._process.poll() is not None:
            raise ServerFailed(f"{self.name} is not running.")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives (a paused one does)."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start the server and return when it answers; does nothing when it runs."""
        if not self.running:
            self.launch()
            self.await_ready()
        return self

    def launch(self) -> None:
        """Begin to start, so that several servers may start side by side; ``await_ready`` returns when it answers."""
        self.prepare()
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*_bound_to_this_process(), *self.command()],
                cwd=self.folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._paused = False

    def await_ready(self) -> None:
        """Return when the server answers. Raises ``ServerFailed`` with the end of its log when it does not in time."""
        deadline = time.monotonic() + self.start_timeout_s
        while not self.ready():
            if not self.running:
                raise ServerFailed(f"{self.name} ended while starting; the end of {self.log_path}:\n{self._log_end()}")
            if time.monotonic() > deadline:
                self.kill()
                raise ServerFailed(
                    f"{self.name} did not answer within {self.start_timeout_s:.0f} s; "
                    f"the end of {self.log_path}:\n{self._log_end()}"
                )
            time.sleep(0.05)

    def stop(self, timeout_s: float = 30) -> None:
        """Ask the server to end (SIGTERM); kill it when it has not within ``timeout_s``."""
        self._end(signal.SIGTERM, timeout_s)

    def interrupt(self, timeout_s: float = 30) -> None:
        """Ask the server to end as Ctrl-C does (SIGINT)."""
        self._end(signal.SIGINT, timeout_s)

    def wait(self, timeout_s: float) -> int:
        """Wait until the server has ended by itself and return its exit code; ``TimeoutExpired`` when it has not."""
        if self._process is None:
            raise ServerFailed(f"{self.name} is not running.")
        self.exit_code = self._process.wait(timeout_s)
        return self.exit_code

    def kill(self) -> None:
        """End the server at once, as a crash would (SIGKILL)."""
        self._end(signal.SIGKILL, 10)

    def restart(self, *, kill: bool = False) -> None:
        """End the server, cleanly or by SIGKILL, and start it again on the same ports and data."""
        if kill:
            self.kill()
        else:
            self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze the server (SIGSTOP): its sockets stay open and answer nothing. Returns when every thread stands."""
        self._signal(signal.SIGSTOP)
        self._paused = True
        deadline = time.monotonic() + 1
        while not self._stands() and time.monotonic() < deadline:
            time.sleep(0.001)

    def resume(self) -> None:
        """Let a frozen server go on (SIGCONT)."""
        self._signal(signal.SIGCONT)
        self._paused = False

    def _stands(self) -> bool:
        """Return whether no thread of the process runs any more; True where the system does not tell."""
        states = [
            one.read_text().rpartition(")")[2].split()[0] for one in Path(f"/proc/{self.pid}/task").glob("*/stat")
        ]
        return all(state in {"T", "Z", "X"} for state in states)

    def close(self) -> None:
        """Stop the server and remove its data when the folder was ours."""
        self.stop()
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.kill()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------ details

    def _signal(self, number: signal.Signals) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(number)

    def _end(self, number: signal.Signals, timeout_s: float) -> None:
        process = self._process
        if process is None:
            return
        if self._paused:
            self.resume()
        self._signal(number)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self.exit_code = process.returncode
        self._process = None

    def _log_end(self, lines: int = 15) -> str:
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])


def _bound_to_this_process() -> list[str]:
    """Return a prefix that ends the server when this process dies, so that a killed test run leaves none behind.

    The kernel ties the signal to the thread that starts the child, so a thread that may end earlier than the
    process gets no prefix.
    """
    if shutil.which("setpriv") is None or threading.current_thread() is not threading.main_thread():
        return []
    return ["setpriv", "--pdeathsig", "KILL"]
