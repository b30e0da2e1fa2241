"""Settings of every role, from the environment: ``JOURNEY_`` plus the field's name in capitals.

Command-line options override them; ``journey doctor`` prints what is in force.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """One closed list of settings; an unknown ``JOURNEY_`` variable is refused by the command line."""

    model_config = SettingsConfigDict(env_prefix="JOURNEY_", extra="forbid", frozen=True)

    workspace: str = Field("default", pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$", description="Tenant of this process.")
    rules: Path = Field(Path("rules"), description="Folder of journeys, rules and their companions.")
    data: Path = Field(Path(".data"), description="Folder of the embedded store.")
    host: str = Field("127.0.0.1", description="Address that HTTP servers bind to.")
    port: int = Field(8080, ge=0, le=65535, description="Port of the gateway.")
    receiver_port: int = Field(8090, ge=0, le=65535, description="Port of the local receiver.")
    metrics_port: int = Field(9100, ge=0, le=65535, description="Port of /metrics of worker and dispatcher.")
    kafka_bootstrap: str = Field("127.0.0.1:9092", description="Bootstrap servers of Kafka, comma-separated.")
    kafka_group: str = Field("journey-worker", description="Consumer group and Faust app id of the workers.")
    kafka_replication: int = Field(1, ge=1, description="Replication factor of topics that are created.")
    partitions: int = Field(8, ge=1, le=4096, description="Partitions of journey.events when it is created.")
    session_timeout_s: float = Field(10, gt=0, description="Silence after which a worker is taken for dead.")
    redis_url: str = Field("redis://127.0.0.1:6379/0", description="Redis that keeps states, outbox and queues.")
    write_keys: tuple[SecretStr, ...] = Field((), description="Keys that may ingest; empty allows every caller.")
    body_bytes_max: int = Field(512_000, ge=1_000, description="Largest HTTP body.")
    event_bytes_max: int = Field(32_000, ge=500, description="Largest single event.")
    depth_max: int = Field(16, ge=2, description="Deepest nesting of an event.")
    future_tolerance_s: float = Field(300, ge=0, description="How far ahead of the log an event may be dated.")
    batch_events_max: int = Field(500, ge=1, description="Records that are decided in one commit.")
    customers_cached_max: int = Field(20_000, ge=0, description="Decoded states that a worker keeps per partition.")
    dead_letter_share_max: float = Field(0.5, gt=0, le=1, description="Share of refused events that stops a worker.")
    grace_ms: int = Field(100, ge=0, description="How far the clock of a caught-up partition trails the present.")
    log_format: str = Field("text", pattern="^(text|json)$", description="Form of log lines.")
