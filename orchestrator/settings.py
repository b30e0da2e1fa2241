"""Settings of every role, from the environment: ``JOURNEY_`` plus the field's name in capitals.

Command-line options override them; ``journey doctor`` prints what is in force.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from connectors.reach import Reach
from orchestrator.core.customer_id import NOBODY

WORKSPACE = r"^[a-z0-9][a-z0-9_-]{0,31}$"
HOST_NAME = r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?"
DEFAULT_WORKSPACE = "default"
BROKER = r"([A-Z_]+://)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(:[0-9]{1,5})?"
_FILES = (
    *(("kafka", part) for part in ("ca_file", "certificate", "key")),
    *(("redis", part) for part in ("ca_file", "certificate", "key")),
    *(("tls", part) for part in ("certificate", "key")),
)
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?")
_DEFAULT_PORT = re.compile(r"http://.*:80|https://.*:443")


def _as_browsers_name_it(origin: str) -> str:
    if not _ORIGIN.fullmatch(origin) or _DEFAULT_PORT.fullmatch(origin):
        raise ValueError(
            f'"{origin}" is no origin of a page: write it as browsers do, such as https://shop.example, in lower case, '
            "without path, slash, pattern or default port"
        )
    return origin


#: The origin of a web page. "null", which many pages have, is none.
Origin = Annotated[str, AfterValidator(_as_browsers_name_it)]


class Settings(BaseSettings):
    """One closed list of settings; an unknown ``JOURNEY_`` variable is refused by the command line."""

    model_config = SettingsConfigDict(env_prefix="JOURNEY_", extra="forbid", frozen=True)

    workspace: str = Field(DEFAULT_WORKSPACE, pattern=WORKSPACE, description="Tenant of this process.")
    neighbours: tuple[str, ...] = Field(
        (),
        description="Other workspaces on the same Kafka; the workspace default needs their names to leave them alone.",
    )
    rules: Path = Field(Path("rules"), description="Folder of journeys, rules and their companions.")
    data: Path = Field(Path(".data"), description="Folder of the embedded store.")
    host: str = Field("127.0.0.1", description="Address that HTTP servers bind to.")
    host_names: tuple[str, ...] = Field(
        (), description="Names that a gateway without keys, and the receiver, are called by, beside localhost."
    )
    allowed_origins: tuple[Origin, ...] = Field(
        (),
        description="Web pages that may send events from a browser with any key or, without keys, with none; "
        "a key may name further ones.",
    )
    port: int = Field(8080, ge=0, le=65535, description="Port of the gateway.")
    receiver_port: int = Field(8090, ge=0, le=65535, description="Port of the local receiver.")
    metrics_port: int = Field(9100, ge=0, le=65535, description="Port of /metrics of worker and dispatcher.")
    kafka_bootstrap: str = Field("127.0.0.1:9092", description="Bootstrap servers of Kafka, comma-separated.")
    kafka_group: str = Field("journey-worker", description="Consumer group and Faust app id of the workers.")
    kafka_replication: int = Field(1, ge=1, le=32_767, description="Replication factor of topics that are created.")
    partitions: int = Field(8, ge=1, le=4096, description="Partitions of journey.events when it is created.")
    session_timeout_s: float = Field(10, gt=0, le=1_800, description="Silence after which a worker is taken for dead.")
    kafka_security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How clients of Kafka connect: in the clear or over TLS, with a password or without."
    )
    kafka_ca_file: Path | None = Field(
        None, description="Authorities that sign Kafka's certificate; else the system's."
    )
    kafka_certificate: Path | None = Field(None, description="Client certificate for Kafka, with its chain (PEM).")
    kafka_key: Path | None = Field(None, description="Private key of kafka_certificate (PEM).")
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="How Kafka checks the password."
    )
    kafka_user: str = Field("", description="User of Kafka, with SASL.")
    kafka_password: SecretStr = Field(SecretStr(""), description="Password of kafka_user.")
    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Redis that keeps states, outbox and queues; rediss:// connects over TLS.",
    )
    redis_cluster: bool = Field(False, description="JOURNEY_REDIS_URL names a node of a Redis Cluster.")
    redis_ca_file: Path | None = Field(None, description="Authorities that sign Redis' certificate; else the system's.")
    redis_certificate: Path | None = Field(None, description="Client certificate for Redis, with its chain (PEM).")
    redis_key: Path | None = Field(None, description="Private key of redis_certificate (PEM).")
    write_keys: tuple[SecretStr, ...] = Field((), description="Keys that may send events: plain, or sha256:<hex>.")
    keys_file: Path | None = Field(
        None, description="File of keys with roles, hashed; made by `journey keys create`, read again when it changes."
    )
    allow_anonymous: bool = Field(
        False, description="Serve other machines without any key; on the loopback address that is allowed anyway."
    )
    tls_certificate: Path | None = Field(None, description="Certificate of the gateway, with its chain (PEM): HTTPS.")
    tls_key: Path | None = Field(None, description="Private key of tls_certificate (PEM).")
    trusted_proxies: tuple[str, ...] = Field(
        (), description="Addresses of proxies whose X-Forwarded-For and -Proto are believed; empty believes nobody."
    )
    request_timeout_s: float = Field(
        30, gt=0, le=3_600, description="Time within which a request must have arrived as a whole."
    )
    private_targets: str = Field(
        "",
        description="Where connectors may connect beside public addresses: networks, hosts, host:port, with commas.",
    )
    body_bytes_max: int = Field(512_000, ge=1_000, description="Largest HTTP body.")
    event_bytes_max: int = Field(32_000, ge=16_000, le=200_000, description="Largest single event.")
    depth_max: int = Field(16, ge=2, description="Deepest nesting of an event.")
    future_tolerance_s: float = Field(
        300, ge=0, le=31_536_000, description="How far ahead of the log an event may be dated."
    )
    nobody_ids: tuple[str, ...] = Field(
        NOBODY, description="Ids that stand for nobody, in any case of letters; events that name them are refused."
    )
    batch_events_max: int = Field(500, ge=1, description="Records that are decided in one commit.")
    customers_cached_max: int = Field(20_000, ge=0, description="States that a worker keeps in memory per partition.")
    timeline_days: float = Field(
        90, gt=0, le=36_500, description="Days after which the timeline of a silent customer goes."
    )
    refused_share_alert: float = Field(
        0.5, gt=0, le=1, description="Share of a producer's events above which a worker says that they are refused."
    )
    grace_ms: int = Field(100, ge=0, description="How far the clock of a caught-up partition trails the present.")
    log_format: str = Field("text", pattern="^(text|json)$", description="Form of log lines.")

    @field_validator("rules", "data", "keys_file", *(f"{side}_{part}" for side, part in _FILES), mode="before")
    @classmethod
    def _named(cls, path: object) -> object:
        if path == "":
            raise ValueError("is empty, which would be the folder that this runs in; name one, or leave it out")
        return path

    @field_validator("kafka_bootstrap")
    @classmethod
    def _brokers(cls, text: str) -> str:
        for broker in text.split(","):
            if not re.fullmatch(BROKER, broker.strip()):
                raise ValueError(f'"{broker.strip()}" is no address of a broker: write host:port, several with commas')
        return text

    @field_validator("private_targets")
    @classmethod
    def _targets(cls, text: str) -> str:
        try:
            Reach.parsed(text)
        except ValueError as error:
            raise ValueError(f"{error}. Write 10.0.0.0/8, a host or host:port") from None
        return text

    @field_validator("neighbours")
    @classmethod
    def _workspaces(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not re.fullmatch(WORKSPACE, name):
                raise ValueError(f'"{name}" is no name of a workspace')
        return names

    @field_validator("host_names")
    @classmethod
    def _hosts(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not re.fullmatch(HOST_NAME, name):
                raise ValueError(f'"{name}" is no name of a host: write it alone, without scheme, port or pattern')
        return names

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        for side in ("tls", "kafka", "redis"):
            if bool(getattr(self, f"{side}_certificate")) != bool(getattr(self, f"{side}_key")):
                name = f"JOURNEY_{side.upper()}"
                raise ValueError(f"{name}_CERTIFICATE and {name}_KEY belong together: set both")
        if self.kafka_security.startswith("SASL") and not (self.kafka_user and self.kafka_password.get_secret_value()):
            raise ValueError("JOURNEY_KAFKA_SECURITY asks for a password: set JOURNEY_KAFKA_USER and _PASSWORD")
        return self

    def group(self, name: str) -> str:
        """Return the consumer group ``name`` of this workspace: each workspace reads every partition for itself."""
        return name if self.workspace == DEFAULT_WORKSPACE else f"{name}.{self.workspace}"
