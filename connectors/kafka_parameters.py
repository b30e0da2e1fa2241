"""What a kafka connector can be told, what a record must bring, and its type: what is known without the client."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, PrivateAttr, field_validator, model_validator

from connectors.connector_type import KINDS, AnyParams, ConnectorType, Parameters, on_first_use
from connectors.reach import Reach


class KafkaParameters(Parameters):
    """Settings of a topic."""

    bootstrap: str = Field(min_length=3, description="Brokers to begin with, host:port, separated by commas.")
    topic: str = Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$", description="Topic that deliveries are published to.")
    security: Literal["none", "tls", "sasl", "sasl_tls"] = Field(
        "none", description="How brokers are spoken to: none, tls, sasl (a password in the clear) or sasl_tls."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "PLAIN", description="How the password is proved: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."
    )
    username: str = Field("", description="Name that SASL authenticates.")
    password_env: str = Field("", description="Environment variable that holds its password.")
    ca_file: str = Field("", description="File with the authorities that sign the brokers' certificates, PEM.")
    certificate_file: str = Field("", description="File with a certificate for the brokers to know us by, PEM.")
    key_file: str = Field("", description="File with the key of that certificate, PEM.")
    timeout_s: float = Field(10, gt=0, le=300, description="Deadline of one attempt, connecting included, in seconds.")

    _reach: Reach = PrivateAttr(default_factory=Reach.of_environment)

    @field_validator("bootstrap")
    @classmethod
    def _hosts_and_ports(cls, bootstrap: str) -> str:
        for broker in bootstrap.split(","):
            host, _, port = broker.strip().rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) < 65536:
                raise ValueError(f'"{broker.strip()}" is not host:port')
        return bootstrap

    @model_validator(mode="after")
    def _whole_credentials(self) -> Self:
        if self.security.startswith("sasl") != bool(self.username and self.password_env):
            raise ValueError("username and password_env go with security sasl or sasl_tls, and those need both")
        if bool(self.certificate_file) != bool(self.key_file):
            raise ValueError("certificate_file and key_file go together")
        return self

    @property
    def brokers(self) -> list[tuple[str, int]]:
        """The brokers to begin with."""
        pairs = (broker.strip().rpartition(":") for broker in self.bootstrap.split(","))
        return [(host.strip("[]"), int(port)) for host, _, port in pairs]

    @property
    def reach(self) -> Reach:
        """What may be connected to: never a setting of the rules, always the word of who runs the process."""
        return self._reach

    def within(self, reach: Reach) -> Self:
        """Return the same parameters with another reach."""
        other = self.model_copy()
        other._reach = reach
        return other


class PublishParams(AnyParams):
    """What a record is made of."""

    value: Any = Field(
        None,
        description="The record's value, text as it is and anything else as JSON; without it, the whole delivery.",
    )


KAFKA = ConnectorType(
    type="kafka",
    description="Any action as a record of a Kafka topic.",
    kinds=KINDS,
    parameters=KafkaParameters,
    action_params=PublishParams,
    create=on_first_use("connectors.kafka:create"),
)
