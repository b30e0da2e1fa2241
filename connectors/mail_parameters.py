"""What an e-mail connector can be told, what one e-mail must bring, and its type: all that is known without SMTP."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, PrivateAttr, model_validator

from connectors.connector_type import ActionParams, ConnectorType, Parameters, on_first_use
from connectors.http import HttpUrl
from connectors.mail_message import BodyText, EmailAddress, OneLine
from connectors.markup import Markup
from connectors.reach import Reach
from connectors.standard_callback import CALLBACK_SECRET_DESCRIPTION

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.:-]*[A-Za-z0-9])?")
_FIELD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_OWN_HEADERS = frozenset(
    {"from", "to", "cc", "bcc", "sender", "reply-to", "subject", "date", "message-id", "auto-submitted", "x-action-id"}
    | {"list-unsubscribe", "list-unsubscribe-post", "mime-version"}
)


def _host(host: str) -> str:
    if not _HOST.fullmatch(host):
        raise ValueError("must be the name or address of a mail server, without a scheme or port")
    return host


def _mail_headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _FIELD_NAME.fullmatch(name) or not re.fullmatch(r"[\x20-\x7e]{0,900}", value):
            raise ValueError(f'header "{name}" is not one line of printable ASCII')
        if name.lower() in _OWN_HEADERS or name.lower().startswith("content-"):
            raise ValueError(f'header "{name}" is set by the connector itself')
    return headers


def _on_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class EmailParameters(Parameters):
    """Settings of an e-mail connector."""

    host: Annotated[str, AfterValidator(_host)] = Field(description="Mail server that messages are handed to.")
    port: int = Field(0, ge=0, le=65_535, description="Its port; 0 takes 587 for starttls, 465 for tls, 25 for none.")
    security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="How the connection is encrypted; none only for a server on this machine."
    )
    ca_file: str = Field(
        "", description="PEM file of the authorities that may vouch for the server; empty: public ones."
    )
    username: str = Field("", description="Name to log in with; empty logs in nowhere.")
    password_env: str = Field("", description="Environment variable that holds the password of username.")
    from_address: EmailAddress = Field(description="Address that messages come from.")
    from_name: OneLine = Field("", max_length=200, description="Name shown beside from_address.")
    reply_to: EmailAddress | None = Field(None, description="Address that answers go to, when it is another.")
    return_path: EmailAddress | None = Field(
        None, description="Address that the server's bounce messages go to; from_address when left out."
    )
    callback_url: HttpUrl | None = Field(
        None, description="Public URL of this connector's callbacks; unsubscribe links begin with it."
    )
    unsubscribe_secret_env: str = Field(
        "", description="Environment variable with the secret, whsec_..., that signs unsubscribe links."
    )
    unsubscribe_mailto: EmailAddress | None = Field(
        None, description="Address that takes unsubscribe requests by mail, offered beside the link."
    )
    callback_secret_env: str = Field("", description=CALLBACK_SECRET_DESCRIPTION)
    headers: Annotated[dict[str, str], AfterValidator(_mail_headers)] = Field(
        {}, description="Headers added to each message; {action_id} and {customer_id} in a value are filled in."
    )
    timeout_s: float = Field(30, gt=0, le=300, description="Deadline of one attempt, connecting included, in seconds.")
    connections_max: int = Field(5, ge=1, le=100, description="Most sessions open to the server at once.")

    _reach: Reach = PrivateAttr(default_factory=Reach.of_environment)

    @property
    def reach(self) -> Reach:
        """What may be connected to: never a setting of the rules, always the word of who runs the process."""
        return self._reach

    def within(self, reach: Reach) -> Self:
        """Return the same parameters with another reach."""
        other = self.model_copy()
        other._reach = reach
        return other

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.security == "none" and not _on_loopback(self.host):
            raise ValueError(
                'setting "security" may be none only when "host" is on this machine (127.0.0.1, localhost)'
            )
        if bool(self.username) != bool(self.password_env):
            raise ValueError('settings "username" and "password_env" are needed both or neither')
        if self.unsubscribe_secret_env and not self.callback_url:
            raise ValueError('setting "unsubscribe_secret_env" needs "callback_url", which its links begin with')
        return self


class EmailParams(ActionParams):
    """What an e-mail needs."""

    one_of: ClassVar[tuple[tuple[str, ...], ...]] = (("html", "text"),)
    markup: ClassVar[Mapping[str, Markup]] = {"html": Markup.HTML}

    to: EmailAddress = Field(description="Address to write to, such as ana@example.com.")
    to_name: OneLine = Field("", max_length=200, description="Name shown beside it.")
    subject: OneLine = Field(min_length=1, max_length=500, description="Subject, one line.")
    html: BodyText = Field("", max_length=1_000_000, description="The message as HTML.")
    text: BodyText = Field(
        "", max_length=1_000_000, description="The message as plain text; made from html when it is left out."
    )
    reply_to: EmailAddress | None = Field(None, description="Address that answers to this message go to.")


EMAIL = ConnectorType(
    type="email",
    description="An e-mail, handed to a mail server by SMTP.",
    kinds=("email",),
    parameters=EmailParameters,
    action_params=EmailParams,
    create=on_first_use("connectors.mail:create"),
    callbacks=on_first_use("connectors.mail:callbacks"),
)
