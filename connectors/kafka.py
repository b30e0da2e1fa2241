"""The kafka connector: any action as a record of a topic of yours.

The producer is idempotent and waits for every replica in sync (``acks=all``): what a broker cannot take at once is
repeated inside the attempt without doubling it. A record whose acknowledgement does not come in time is UNKNOWN, and
may still be written after that; consumers tell a repeat by the header ``id``.

Brokers name each other, and whoever owns one may name any address. So every connection is judged when it is opened, and
a cluster that names a broker out of reach gets no record at all, rather than those of some customers.

=============================================  ========  =====================================================
what happened                                  result    why
=============================================  ========  =====================================================
acknowledged                                   DELIVERED  it is on every replica in sync
unknown topic, no permission, too large,        REFUSED   the same record will never be taken
a broker out of reach (``connectors.reach``)
no broker, no metadata in time                  RETRY     nothing was handed over
no acknowledgement in time                      UNKNOWN   it may be written, now or later
=============================================  ========  =====================================================
"""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    InvalidTopicError,
    KafkaConnectionError,
    KafkaError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    TopicAuthorizationFailedError,
)

from connectors.connector_type import Surroundings, checked_params, environment_value
from connectors.errors import ConnectorMisconfigured, Problem
from connectors.kafka_parameters import KafkaParameters, PublishParams
from connectors.kafka_reach import BrokerForbidden, guard, opened
from connectors.protocol import Delivery, Receipt, Result
from connectors.reach import ForbiddenTarget, Reach
from connectors.webhook import webhook_content

METADATA_TRIES, METADATA_PAUSE_S = 3, 0.1
_SECURITY = {"none": "PLAINTEXT", "tls": "SSL", "sasl": "SASL_PLAINTEXT", "sasl_tls": "SASL_SSL"}


class KafkaConnector:
    """Publishes each delivery as one record, keyed by customer, so that a customer's records keep their order."""

    def __init__(self, name: str, parameters: KafkaParameters, *, password: str, tls: ssl.SSLContext | None) -> None:
        self.name = name
        self._parameters = parameters
        self._password = password
        self._tls = tls
        self._session: _Session | None = None
        self._starting = asyncio.Lock()
        self._endings: set[asyncio.Task[None]] = set()

    async def send(self, delivery: Delivery) -> Receipt:
        """Make one attempt within ``timeout_s``; connecting, when nothing is open, is part of it."""
        value = _value(delivery)
        if isinstance(value, Receipt):
            return value
        attempt = _Attempt(delivery, value)
        try:
            async with asyncio.timeout(self._parameters.timeout_s):
                attempt.session = await self._started()
                written = await attempt.publish(self._parameters.topic)
        except (_Refused, BrokerForbidden) as refusal:
            return Receipt(result=Result.REFUSED, detail=str(refusal))
        except (KafkaError, OSError) as error:
            self._retire(attempt.session)
            return self._failure(error, attempt.handed_over)
        finally:
            self._release(attempt.session)
        return Receipt(
            result=Result.DELIVERED, reference=f"{self._parameters.topic}/{written.partition}/{written.offset}"
        )

    async def check(self) -> str | None:
        """Return None when the topic can be published to as far as brokers tell beforehand, else what to mend."""
        session = None
        try:
            async with asyncio.timeout(self._parameters.timeout_s):
                session = await self._started()
                await session.producer.client.fetch_all_metadata()
        except TimeoutError:
            return f"{self._parameters.bootstrap} did not answer within {self._parameters.timeout_s:g} s. {_UNREACHED}"
        except (_Refused, BrokerForbidden) as refusal:
            return str(refusal)
        except (KafkaError, OSError) as error:
            self._retire(session)
            if isinstance(error, KafkaConnectionError) and await self._listened_to():
                return f"{self._parameters.bootstrap} listens and does not let us in. {_NOT_LET_IN}"
            failure = self._failure(error, handed_over=False)
            return failure.detail if failure.result is Result.REFUSED else f"{failure.detail}. {_UNREACHED}"
        finally:
            self._release(session)
        return None

    async def close(self) -> None:
        """Close the connections; what was not acknowledged in time is given up."""
        self._retire(self._session)
        while self._endings:
            await asyncio.gather(*self._endings)

    async def _started(self) -> _Session:
        """Return a session that knows the topic, in use; raise a refusal, ``KafkaError`` or ``OSError``."""
        async with self._starting:
            if self._session is None:
                self._session = await self._new_session()
            session = self._session
            await self._find_topic(session.producer.client)
            await session.judge_brokers(self._parameters.reach)
            session.users += 1
            return session

    def _release(self, session: _Session | None) -> None:
        if session is not None:
            session.users -= 1
            self._end_when_unused(session)

    def _retire(self, session: _Session | None) -> None:
        """Let nobody else begin with ``session``: after an error its numbering of records may have a gap."""
        if session is not None and session is self._session:
            self._session = None
            self._end_when_unused(session)

    def _end_when_unused(self, session: _Session) -> None:
        if session is not self._session and not session.users and not session.ending:
            session.ending = True
            task = asyncio.create_task(session.end())
            self._endings.add(task)
            task.add_done_callback(self._endings.discard)

    async def _new_session(self) -> _Session:
        """Return a session whose brokers were judged; all that ``AIOKafkaProducer.start`` does, and that in between."""
        session = _Session(await self._new_producer())
        producer = session.producer
        try:
            await producer.client.bootstrap()
            await session.judge_brokers(self._parameters.reach)
            await producer._sender.start()
        except BaseException:
            await producer.stop()
            raise
        return session

    async def _new_producer(self) -> Any:
        for host, port in self._parameters.brokers:
            try:
                await self._parameters.reach.addresses(host, port)
            except ForbiddenTarget as error:
                raise BrokerForbidden(f"{error}.") from None
        producer = AIOKafkaProducer(
            bootstrap_servers=[f"{host}:{port}" for host, port in self._parameters.brokers],
            client_id=f"journey-{self.name}",
            acks="all",
            enable_idempotence=True,
            request_timeout_ms=int(self._parameters.timeout_s * 1000),
            security_protocol=_SECURITY[self._parameters.security],
            ssl_context=self._tls,
            sasl_mechanism=self._parameters.sasl_mechanism,
            sasl_plain_username=self._parameters.username or None,
            sasl_plain_password=self._password or None,
        )
        guard(producer.client, AIOKafkaConnection, self._parameters.reach)
        return producer

    async def _find_topic(self, client: Any) -> None:
        """Return when the topic's partitions are known. A topic made a moment ago may take a few questions."""
        topic = self._parameters.topic
        for _ in range(METADATA_TRIES):
            if client.cluster.partitions_for_topic(topic) is not None:
                return
            await (client.force_metadata_update() if topic in client.cluster.topics() else client.add_topic(topic))
            if client.cluster.partitions_for_topic(topic) is not None:
                return
            if topic in client.cluster.unauthorized_topics:
                raise _Refused(_NO_PERMISSION.format(topic=topic))
            await asyncio.sleep(METADATA_PAUSE_S)
            await client.force_metadata_update()
        raise _Refused(f'the topic "{topic}" does not exist. Create it, or correct the setting "topic".')

    def _failure(self, error: KafkaError | OSError, handed_over: bool) -> Receipt:
        """Return what an error means; ``asyncio.timeout`` raises one too."""
        topic = self._parameters.topic
        match error:
            case TimeoutError() if handed_over:
                detail = f"no acknowledgement within {self._parameters.timeout_s:g} s"
                return Receipt(result=Result.UNKNOWN, detail=detail)
            case TimeoutError():
                return Receipt(
                    result=Result.RETRY, detail=f"no broker was ready within {self._parameters.timeout_s:g} s"
                )
            case TopicAuthorizationFailedError() | ClusterAuthorizationFailedError():
                # Brokers number the records of nobody who may not write to any topic, and say "cluster" then.
                return Receipt(result=Result.REFUSED, detail=_NO_PERMISSION.format(topic=topic))
            case MessageSizeTooLargeError():
                detail = f'the topic "{topic}" takes no record of this size (max.message.bytes). Send less in "value".'
                return Receipt(result=Result.REFUSED, detail=detail)
            case InvalidTopicError() | PolicyViolationError():
                return Receipt(result=Result.REFUSED, detail=f"the brokers refuse it: {_said(error)}.")
            case _ if handed_over:
                return Receipt(result=Result.UNKNOWN, detail=f"no acknowledgement: {_said(error)}")
            case _:
                return Receipt(result=Result.RETRY, detail=f"no broker: {_said(error)}")

    async def _listened_to(self) -> bool:
        """Return whether a broker takes connections at all, which tells wrong credentials from a wrong address."""
        host, port = self._parameters.brokers[0]
        try:
            async with asyncio.timeout(self._parameters.timeout_s):
                transport, _ = await opened(self._parameters.reach, asyncio.Protocol, host, port)
        except (OSError, TimeoutError):
            return False
        transport.close()
        return True


class _Session:
    """A producer, how many are at work with it, and the brokers that it may be told of."""

    def __init__(self, producer: Any) -> None:
        self.producer = producer
        self.users = 0
        self.ending = False
        self._judged: set[tuple[str, int]] = set()

    async def judge_brokers(self, reach: Reach) -> None:
        """Raise ``BrokerForbidden`` when the cluster names a broker out of reach.

        The client cannot connect there either, but would only try again until the timeout, and never say why.
        """
        named = {(broker.host, broker.port) for broker in self.producer.client.cluster.brokers()}
        for host, port in sorted(named - self._judged):
            try:
                await reach.addresses(host, port)
            except ForbiddenTarget as error:
                raise BrokerForbidden(f"a broker's advertised listener is {host}:{port}. {error}.") from None
            except OSError:
                continue  # Its name may resolve again by the time that it is needed.
            self._judged.add((host, port))

    async def end(self) -> None:
        """Stop the producer, after the request that is on its way at the latest.

        Its own ``stop`` waits, for ever if need be, for records that nobody waits for any more.
        """
        await self.producer._sender.close()
        self.producer._message_accumulator.fail_all(KafkaError("the connector was closed"))
        await self.producer.stop()


class _Attempt:
    """One delivery on its way: how far it got decides what its failure means."""

    def __init__(self, delivery: Delivery, value: bytes) -> None:
        self._delivery = delivery
        self._value = value
        self.session: _Session | None = None
        self.handed_over = False

    async def publish(self, topic: str) -> Any:
        """Publish the record and return where it was written."""
        assert self.session is not None
        acknowledgement = await self.session.producer.send(
            topic,
            self._value,
            key=self._delivery.customer_id.encode(),
            headers=[("id", self._delivery.id.encode()), ("kind", self._delivery.kind.encode())],
            timestamp_ms=self._delivery.decided_at_ms,
        )
        self.handed_over = True
        return await acknowledgement


class _Refused(Exception):
    """The settings cannot work; the message is the receipt's detail and says what to mend."""


_NO_PERMISSION = 'no permission to write to the topic "{topic}". Permit the user to, or correct username and topic.'
_UNREACHED = "Check bootstrap, the network and that the brokers are running."
_NOT_LET_IN = "Check security, sasl_mechanism, username, the password and the certificates."


def _value(delivery: Delivery) -> bytes | Receipt:
    """Return the record's value, or the refusal of what cannot be written."""
    params = checked_params(PublishParams, delivery)
    if isinstance(params, Receipt):
        return params
    try:
        for beside in (delivery.customer_id, delivery.id, delivery.kind):  # the record's key and headers
            beside.encode()
        if isinstance(params.value, str):
            return params.value.encode()
    except UnicodeEncodeError as error:
        return Receipt(result=Result.REFUSED, detail=f"the delivery cannot be written as a record: {error.reason}")
    content = webhook_content(delivery) if params.value is None else params.value
    try:
        return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        return Receipt(result=Result.REFUSED, detail=f"the delivery cannot be written as JSON: {error}")


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def create(name: str, parameters: KafkaParameters, surroundings: Surroundings) -> KafkaConnector:
    """Return the connector; raise ``ConnectorMisconfigured`` for a password or a file that is not there."""
    variable = parameters.password_env
    password = environment_value(name, "password_env", variable, surroundings) if variable else ""
    try:
        tls = _tls(parameters) if parameters.security in {"tls", "sasl_tls"} else None
    except OSError as error:
        message = f'setting "ca_file", "certificate_file" or "key_file": {error.strerror or error}'
        remedy = "Name PEM files that this process may read."
        raise ConnectorMisconfigured(name, [Problem("ca_file", message, remedy)]) from None
    return KafkaConnector(name, parameters, password=password, tls=tls)


def _tls(parameters: KafkaParameters) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=parameters.ca_file or None)
    if parameters.certificate_file:
        context.load_cert_chain(parameters.certificate_file, parameters.key_file)
    return context
