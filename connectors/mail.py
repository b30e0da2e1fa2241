"""The e-mail connector: hands one message a delivery to a mail server, and reads what comes back of it.

A repeat under the same action id has the same Message-ID. With ``callback_url`` and ``unsubscribe_secret_env`` every
message can be unsubscribed from with one click; callbacks are such clicks, and reports in the standard form.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html import escape
from urllib.parse import quote

from connectors import clock
from connectors.callback import Callback, CallbackReader, CallbackRefused, OutcomeType, Reading
from connectors.connector_type import Surroundings, checked_params, environment_value
from connectors.errors import ConnectorMisconfigured, Problem
from connectors.mail_message import Mail, message_bytes, needs_utf8
from connectors.mail_parameters import EmailParameters, EmailParams
from connectors.plain_text import plain_text
from connectors.protocol import Delivery, Receipt, Result
from connectors.signing_secret import signing_keys
from connectors.smtp import Envelope, SmtpSender
from connectors.smtp_session import Endpoint, tls_context
from connectors.standard_callback import StandardCallbackReader
from connectors.unsubscribe import UnsubscribeLinks, UnsubscribeReader, token_of

PORTS = {"starttls": 587, "tls": 465, "none": 25}
#: Stands for the customer's own link in a text.
UNSUBSCRIBE_MARK = "%unsubscribe_url%"

#: What an e-mail provider may report in the standard form.
REPORTS = (
    OutcomeType.MESSAGE_DELIVERED,
    OutcomeType.MESSAGE_READ,
    OutcomeType.EMAIL_OPENED,
    OutcomeType.LINK_CLICKED,
    OutcomeType.MESSAGE_BOUNCED,
    OutcomeType.MESSAGE_FAILED,
    OutcomeType.MESSAGE_RECEIVED,
    OutcomeType.UNSUBSCRIBED,
    OutcomeType.RESUBSCRIBED,
)


class EmailConnector:
    """Hands in one message a delivery. Whether it reaches the mailbox comes back later, as a report or a bounce."""

    def __init__(
        self,
        name: str,
        parameters: EmailParameters,
        sender: SmtpSender,
        *,
        links: UnsubscribeLinks | None = None,
        now_s: Callable[[], float] = clock.now_s,
    ) -> None:
        self.name = name
        self._parameters = parameters
        self._sender = sender
        self._links = links
        self._now_s = now_s

    async def send(self, delivery: Delivery) -> Receipt:
        """Make one attempt within ``timeout_s``. What cannot be written as a message is refused unsent."""
        if delivery.kind != "email":
            return Receipt(result=Result.REFUSED, detail=f'kind "{delivery.kind}" is not an email')
        params = checked_params(EmailParams, delivery)
        if isinstance(params, Receipt):
            return params
        if self._links is None and UNSUBSCRIBE_MARK in params.html + params.text:
            detail = (
                f"the message holds {UNSUBSCRIBE_MARK}, but this connector makes no such links. "
                "Set callback_url and unsubscribe_secret_env."
            )
            return Receipt(result=Result.REFUSED, detail=detail, recipient=params.to)
        mail = self._mail(delivery, params)
        try:
            message = message_bytes(mail)
        except ValueError as error:
            return Receipt(result=Result.REFUSED, detail=f"the message cannot be written: {error}", recipient=params.to)
        envelope = Envelope(
            sender=self._parameters.return_path or self._parameters.from_address,
            recipient=params.to,
            message=message,
            utf8=needs_utf8(mail),
        )
        return replace(await self._sender.send(envelope), recipient=params.to)

    async def check(self) -> str | None:
        """Return None when the server lets us in, else what to mend. Sends no message."""
        return await self._sender.check()

    async def close(self) -> None:
        """End the sessions."""
        await self._sender.close()

    def _mail(self, delivery: Delivery, params: EmailParams) -> Mail:
        parameters, link = self._parameters, ""
        if self._links is not None:
            link = self._links.link(delivery.customer_id, delivery.id)
        mailto = ""
        if address := parameters.unsubscribe_mailto:
            mailto = f"mailto:{quote(address, safe='@')}?subject=unsubscribe"
        filled = {name: _with_ids(value, delivery) for name, value in parameters.headers.items()}
        html = params.html.replace(UNSUBSCRIBE_MARK, escape(link))
        return Mail(
            action_id=delivery.id,
            at_s=self._now_s(),
            sender=(parameters.from_name, parameters.from_address),
            recipient=(params.to_name, params.to),
            subject=params.subject,
            text=params.text.replace(UNSUBSCRIBE_MARK, link) or plain_text(html),
            html=html,
            reply_to=params.reply_to or parameters.reply_to or "",
            unsubscribe=tuple(filter(None, (link, mailto))),
            one_click=bool(link),
            headers={name: value for name, value in parameters.headers.items() if filled[name] == value},
            headers_with_ids={name: value for name, value in filled.items() if parameters.headers[name] != value},
        )


def _with_ids(text: str, delivery: Delivery) -> str:
    """Fill both ids in, in one go: an id is never searched for the mark of the other."""
    ids = {"{action_id}": delivery.id, "{customer_id}": delivery.customer_id}
    return re.sub(r"\{(action|customer)_id\}", lambda mark: ids[mark[0]], text)


class EmailCallbackReader:
    """Reads unsubscribe requests, and reports in the standard form when there is a secret for them."""

    def __init__(self, unsubscribes: UnsubscribeReader | None, reports: CallbackReader | None) -> None:
        self._unsubscribes = unsubscribes
        self._reports = reports

    def read(self, callback: Callback) -> Reading:
        """Return what the callback reports; raise ``CallbackRefused``."""
        if token_of(callback):
            if self._unsubscribes is None:
                raise CallbackRefused(403, "this connector makes no unsubscribe links: set unsubscribe_secret_env")
            return self._unsubscribes.read(callback)
        if self._reports is None:
            raise CallbackRefused(403, "this connector takes no reports: set callback_secret_env")
        return self._reports.read(callback)


def _links(name: str, parameters: EmailParameters, surroundings: Surroundings) -> UnsubscribeLinks | None:
    variable = parameters.unsubscribe_secret_env
    if not variable or parameters.callback_url is None:
        return None
    keys = signing_keys(name, "unsubscribe_secret_env", variable, surroundings)
    return UnsubscribeLinks(parameters.callback_url, keys)


def _endpoint(name: str, parameters: EmailParameters, surroundings: Surroundings) -> Endpoint:
    tls, variable = None, parameters.password_env
    if parameters.security != "none":
        try:
            tls = tls_context(parameters.ca_file)
        except OSError as error:
            message = f'setting "ca_file": {parameters.ca_file} cannot be read as certificates: {error}'
            remedy = "Name a PEM file of certificates that this process may read."
            raise ConnectorMisconfigured(name, [Problem("ca_file", message, remedy)]) from None
    return Endpoint(
        host=parameters.host,
        port=parameters.port or PORTS[parameters.security],
        security=parameters.security,
        greeting_name=parameters.from_address.rpartition("@")[2],
        username=parameters.username,
        password=environment_value(name, "password_env", variable, surroundings) if variable else "",
        tls=tls,
        timeout_s=parameters.timeout_s,
        sessions_max=parameters.connections_max,
        reach=parameters.reach,
    )


def create(name: str, parameters: EmailParameters, surroundings: Surroundings) -> EmailConnector:
    """Return the connector; raise ``ConnectorMisconfigured`` for a secret or a file that is not there."""
    if parameters.callback_secret_env:
        # Reports are read by another process than the one that sends; both must refuse to start with a faulty secret.
        signing_keys(name, "callback_secret_env", parameters.callback_secret_env, surroundings)
    sender = SmtpSender(_endpoint(name, parameters, surroundings))
    links = _links(name, parameters, surroundings)
    return EmailConnector(name, parameters, sender, links=links, now_s=surroundings.now_s)


def callbacks(name: str, parameters: EmailParameters, surroundings: Surroundings) -> EmailCallbackReader:
    """Return what reads its callbacks; raise ``ConnectorMisconfigured`` for a secret that is not there."""
    links = _links(name, parameters, surroundings)
    sender = parameters.from_name or parameters.from_address
    reports: CallbackReader | None = None
    if variable := parameters.callback_secret_env:
        keys = signing_keys(name, "callback_secret_env", variable, surroundings)
        reports = StandardCallbackReader(keys, REPORTS, surroundings.now_s)
    unsubscribes = UnsubscribeReader(links, sender, surroundings.now_s) if links else None
    return EmailCallbackReader(unsubscribes, reports)
