"""Apache Kafka as one KRaft process, from jars that Maven resolves once into ``.cache``."""

from __future__ import annotations

import base64
import fcntl
import shutil
import socket
import struct
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path

from load_tests.servers.process import Say, ServerFailed, ServerProcess, free_port, silent

KAFKA_VERSION = "4.1.2"

_ROOT = Path(__file__).resolve().parents[2]
_POM = _ROOT / "deploy" / "test" / "kafka-pom.xml"
_CACHE = _ROOT / ".cache"

#: ApiVersions v0 with correlation id 1 and no client id: the one request every broker answers to anybody.
_API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 1, -1)

_LOG4J = """\
Configuration:
  status: WARN
  Appenders:
    Console:
      name: out
      PatternLayout: {pattern: "[%d] %p %m (%c)%n"}
  Loggers:
    Root:
      level: WARN
      AppenderRef: {ref: out}
    Logger:
      - {name: kafka.server.KafkaRaftServer, level: INFO}
      - {name: org.apache.kafka.common.utils.AppInfoParser, level: INFO}
"""


class LocalKafka(ServerProcess):
    """A broker and controller in one process on free loopback ports. Topics are never created by mere use.

    ``settings`` override the broker's properties (``{"log.retention.ms": "1000"}``).
    """

    name = "kafka"
    start_timeout_s = 90

    def __init__(
        self,
        folder: Path | None = None,
        *,
        settings: Mapping[str, str] | None = None,
        heap: str = "512m",
        say: Say = silent,
    ) -> None:
        """Prepare a broker under ``folder``."""
        super().__init__(folder, say=say)
        self.port = free_port()
        self._controller_port = free_port()
        self._settings = dict(settings or {})
        self._heap = heap
        self._jars: Path | None = None

    @property
    def bootstrap(self) -> str:
        """Where clients connect."""
        return f"127.0.0.1:{self.port}"

    @property
    def version(self) -> str:
        """The version of the jars that run."""
        return KAFKA_VERSION

    def prepare(self) -> None:
        """Resolve the jars, write the properties, format the log folder when it is new."""
        self._jars = self._jars or kafka_jars(self.say)
        self._properties_path.write_text("".join(f"{name}={value}\n" for name, value in self._properties().items()))
        (self.folder / "log4j2.yaml").write_text(_LOG4J)
        if not (self.folder / "data" / "meta.properties").exists():
            self._format()

    def command(self) -> list[str]:
        """Return the command line."""
        # A broker that lives for minutes does not earn back what the second compiler takes from two cores.
        sparing = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
        return [
            *self._java(*sparing, f"-Xms{self._heap}", f"-Xmx{self._heap}"),
            "kafka.Kafka",
            str(self._properties_path),
        ]

    def ready(self) -> bool:
        """Return whether the broker answers requests on its client port."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                connection.sendall(_API_VERSIONS)
                return len(connection.recv(8)) == 8
        except OSError:
            return False

    # ------------------------------------------------------------------------------------------ details

    @property
    def _properties_path(self) -> Path:
        return self.folder / "server.properties"

    def _properties(self) -> dict[str, str]:
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{self._controller_port}",
            "log.dirs": str(self.folder / "data"),
            "auto.create.topics.enable": "false",
            "offsets.topic.num.partitions": "1",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
            # The controller believes a killed broker alive for this long, and lets its successor in only then.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            **self._settings,
        }

    def _java(self, *options: str) -> list[str]:
        java = shutil.which("java")
        if java is None:
            raise ServerFailed("java is not installed. Install a Java runtime (17 or later) or set KAFKA_BOOTSTRAP.")
        logging = f"-Dlog4j2.configurationFile={self.folder / 'log4j2.yaml'}"
        return [java, *options, "-Djava.awt.headless=true", logging, "-cp", f"{self._jars}/*"]

    def _format(self) -> None:
        cluster = base64.urlsafe_b64encode(b"j" + uuid.uuid4().bytes[1:]).rstrip(b"=").decode()
        tool = [*self._java("-XX:TieredStopAtLevel=1"), "kafka.tools.StorageTool", "format", "--standalone"]
        done = subprocess.run(
            [*tool, "-t", cluster, "-c", str(self._properties_path)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise ServerFailed(f"Kafka's log folder could not be formatted:\n{done.stdout}{done.stderr}")


def kafka_jars(say: Say = silent) -> Path:
    """Return the folder of the broker's jars, resolving them with Maven when this is the first time.

    Safe to call from several processes at once: one resolves, the others wait. Takes about 150 MB of downloads.
    """
    folder = _CACHE / f"kafka-{KAFKA_VERSION}"
    if folder.is_dir():
        return folder
    _CACHE.mkdir(exist_ok=True)
    with (_CACHE / "kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            say(f"Resolving Apache Kafka {KAFKA_VERSION} with Maven into {folder} (once) ...")
            _resolve(folder)
    return folder


def _resolve(folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise ServerFailed(
            "Neither a container engine nor Maven is here to get Kafka with. Install Maven and a Java runtime "
            "(Debian: apt-get install maven default-jre-headless), or set KAFKA_BOOTSTRAP."
        )
    fresh = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(fresh, ignore_errors=True)
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={fresh}"]
    done = subprocess.run([maven, "-B", "-q", "-f", str(_POM), *goal], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ServerFailed(
            f"Maven could not resolve Kafka {KAFKA_VERSION}:\n{done.stdout[-3000:]}{done.stderr[-1000:]}"
        )
    fresh.rename(folder)
