"""What every client of Kafka shares: how it connects, and how its errors cross the border of this package."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from pydantic import SecretStr

from orchestrator.errors import ConfigurationError, LogUnavailable
from orchestrator.settings import Settings

#: How long a client that reached no broker waits before it asks for the state of the cluster again.
_METADATA_PAUSE_S = 0.2


@dataclass(frozen=True, slots=True)
class Brokers:
    """Where Kafka is and how to connect to it. ``str`` of it names the brokers and holds no secret."""

    bootstrap: str
    security: str = "PLAINTEXT"
    ca_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    mechanism: str = "SCRAM-SHA-512"
    user: str = ""
    password: SecretStr = field(default=SecretStr(""))

    @classmethod
    def of(cls, settings: Settings) -> Brokers:
        """Return the brokers of the settings."""
        return cls(
            bootstrap=settings.kafka_bootstrap,
            security=settings.kafka_security,
            ca_file=settings.kafka_ca_file,
            certificate=settings.kafka_certificate,
            key=settings.kafka_key,
            mechanism=settings.kafka_sasl_mechanism,
            user=settings.kafka_user,
            password=settings.kafka_password,
        )

    def __str__(self) -> str:
        return self.bootstrap

    def tls(self) -> ssl.SSLContext | None:
        """Return the context of TLS connections, None in the clear; raise ``ConfigurationError`` for unusable files."""
        if not self.security.endswith("SSL"):
            return None
        return client_tls("KAFKA", self.ca_file, self.certificate, self.key)

    def options(self) -> dict[str, Any]:
        """Return what aiokafka's clients are told."""
        options: dict[str, Any] = {"bootstrap_servers": self.bootstrap, "security_protocol": self.security}
        if (context := self.tls()) is not None:
            options["ssl_context"] = context
        if self.security.startswith("SASL"):
            options["sasl_mechanism"] = self.mechanism
            options["sasl_plain_username"] = self.user
            options["sasl_plain_password"] = self.password.get_secret_value()
        return options

    def consumer(self, *topics: str, **options: Any) -> AIOKafkaConsumer:
        """Return a consumer, not yet started, with aiokafka's options."""
        consumer = AIOKafkaConsumer(*topics, **self.options(), **options)
        paced(consumer._client)
        return consumer

    def producer(self, **options: Any) -> AIOKafkaProducer:
        """Return a producer, not yet started, with aiokafka's options."""
        producer = AIOKafkaProducer(**self.options(), **options)
        paced(producer.client)
        return producer


#: How clients are told of Kafka: the bootstrap servers alone connect in the clear.
Where = str | Brokers


def brokers(where: Where) -> Brokers:
    """Return the brokers; a plain address connects in the clear."""
    return Brokers(where) if isinstance(where, str) else where


def client_tls(noun: str, ca_file: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """Return a context that verifies the other side and names the host; ``noun`` stands in the settings' names."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
        if certificate is not None:
            context.load_cert_chain(certificate, key, password="")
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"The certificates of JOURNEY_{noun}_CA_FILE, _CERTIFICATE and _KEY cannot be used ({error}). They are PEM "
            "files; certificate and key belong together, the key without password."
        ) from None
    return context


def paced(client: AIOKafkaClient) -> None:
    """Let a client that reaches no broker wait before it asks again.

    By itself it asks at once, and again, thousands of times a second with a log line each, for as long as the brokers
    are away and a partition's leader was not known when the last one went.
    """
    update = client._metadata_update

    async def update_or_wait(cluster: Any, topics: Any) -> Any:
        updated = await update(cluster, topics)
        if not updated:
            await asyncio.sleep(_METADATA_PAUSE_S)
        return updated

    client._metadata_update = update_or_wait


@contextmanager
def translated(where: Where) -> Iterator[None]:
    """Raise ``LogUnavailable``, naming the brokers, for whatever Kafka's client raises or fails to do in time."""
    try:
        yield
    except OffsetOutOfRangeError:
        raise
    except (KafkaError, OSError, TimeoutError) as error:
        raise LogUnavailable(f"Kafka at {where}: {str(error) or type(error).__name__}") from error
