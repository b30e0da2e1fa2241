"""The kafka connector against a broker of its own, which wants a password, knows permissions and falls silent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from connectors.conformance.bench import LOOPBACK, NOW_S
from connectors.errors import ConnectorMisconfigured
from connectors.protocol import Connector, Delivery, Receipt, Result
from connectors.reach import Reach
from connectors.registry import build
from load_tests.servers import LocalKafka
from load_tests.servers.process import free_port

pytestmark = pytest.mark.integration

TOPIC = "deliveries"
USERS = {"root": "r00t-s3cret", "stranger": "str4nge-s3cret"}
MODULE = "org.apache.kafka.common.security.plain.PlainLoginModule"


class GuardedKafka(LocalKafka):
    """A broker with a second listener, ``guarded``, that wants a password; only ``root`` has permissions there.

    Whoever comes by the first listener is the test itself and may do everything.
    """

    def __init__(self) -> None:
        super().__init__(heap="256m")
        self._guarded_port = free_port()

    @property
    def guarded(self) -> str:
        return f"127.0.0.1:{self._guarded_port}"

    def _properties(self) -> dict[str, str]:
        users = " ".join(f'user_{name}="{password}"' for name, password in USERS.items())
        ours = super()._properties()
        return ours | {
            "listeners": f"{ours['listeners']},GUARDED://{self.guarded}",
            "advertised.listeners": f"{ours['advertised.listeners']},GUARDED://{self.guarded}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,GUARDED:SASL_PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.guarded.plain.sasl.jaas.config": f"{MODULE} required {users};",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS;User:root",
        }


@pytest.fixture(scope="module")
def broker() -> Iterator[GuardedKafka]:
    with GuardedKafka() as kafka:
        asyncio.run(_with_topic(kafka.bootstrap))
        yield kafka


async def _with_topic(bootstrap: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(TOPIC, 2, 1)])
    await admin.close()


@asynccontextmanager
async def opened(bootstrap: str, user: str = "", password: str = "", **settings: Any) -> AsyncIterator[Connector]:
    credentials = {"security": "sasl", "username": user, "password_env": "PASSWORD"} if user else {}
    written = {"type": "kafka", "bootstrap": bootstrap, "topic": TOPIC, **credentials, **settings}
    environ = {"PASSWORD": password or USERS.get(user, "-")}
    connector = build("feed", written, environ=environ, now_s=lambda: NOW_S, reach=LOOPBACK)
    try:
        yield connector
    finally:
        await connector.close()


def delivery(number: int = 1, **params: Any) -> Delivery:
    return Delivery(
        id=f"a{number}",
        customer_id="c1",
        kind="publish",
        params=params,
        decided_at_ms=1_772_441_999_688,
        facts={"rule": "feed"},
    )


async def published(bootstrap: str, count: int) -> list[Any]:
    """The latest ``count`` records of the topic, which must all be in one partition: a customer's keep their order."""
    consumer = AIOKafkaConsumer(TOPIC, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    found: list[Any] = []
    try:
        async with asyncio.timeout(20):
            ends = await consumer.end_offsets(consumer.assignment())
            while len(found) < sum(ends.values()):
                found.append(await consumer.getone())
    finally:
        await consumer.stop()
    latest = sorted(found, key=lambda record: record.offset)[-count:]
    assert len({record.partition for record in latest}) == 1
    return latest


async def test_records_are_keyed_by_customer_and_carry_id_and_kind_in_their_headers(broker: GuardedKafka) -> None:
    async with opened(broker.guarded, "root") as connector:
        assert await connector.check() is None
        receipts = [
            await connector.send(delivery(1)),
            await connector.send(delivery(2, value={"offer": "spring"})),
            await connector.send(delivery(3, value="plain text")),
        ]
    records = await published(broker.bootstrap, 3)
    assert [receipt.result for receipt in receipts] == [Result.DELIVERED] * 3
    assert [receipt.reference for receipt in receipts] == [
        f"{TOPIC}/{record.partition}/{record.offset}" for record in records
    ]
    assert [(record.key, dict(record.headers)) for record in records] == [
        (b"c1", {"id": f"a{number}".encode(), "kind": b"publish"}) for number in (1, 2, 3)
    ]
    whole, offer, text = (record.value for record in records)
    assert json.loads(whole) == {
        "rule": "feed",
        "id": "a1",
        "customer_id": "c1",
        "kind": "publish",
        "params": {},
        "decided_at": 1_772_441_999_688,
        "deadline_at": None,
        "attempt": 1,
    }
    assert (json.loads(offer), text) == ({"offer": "spring"}, b"plain text")


async def test_a_user_without_permission_is_refused(broker: GuardedKafka) -> None:
    async with opened(broker.guarded, "stranger") as connector:
        receipt, advice = await connector.send(delivery()), await connector.check()
    said = f'no permission to write to the topic "{TOPIC}". Permit the user to, or correct username and topic.'
    assert (receipt, advice) == (Receipt(result=Result.REFUSED, detail=said), said)


async def test_a_topic_that_is_not_there_is_refused_with_the_remedy(broker: GuardedKafka) -> None:
    async with opened(broker.bootstrap, topic="deliverys") as connector:
        receipt, advice = await connector.send(delivery()), await connector.check()
    said = 'the topic "deliverys" does not exist. Create it, or correct the setting "topic".'
    assert (receipt, advice) == (Receipt(result=Result.REFUSED, detail=said), said)


async def test_a_wrong_password_is_told_apart_from_a_broker_that_is_not_there(broker: GuardedKafka) -> None:
    async with opened(broker.guarded, "root", "wr0ng-s3cret") as connector:
        receipt, advice = await connector.send(delivery()), await connector.check()
    assert receipt.result is Result.RETRY
    assert receipt.detail.startswith("no broker: ")
    assert advice == (
        f"{broker.guarded} listens and does not let us in. "
        "Check security, sasl_mechanism, username, the password and the certificates."
    )
    assert "s3cret" not in receipt.detail + advice


async def test_a_broker_that_falls_silent_is_unknown_then_to_be_retried_and_well_when_it_wakes(
    broker: GuardedKafka,
) -> None:
    async with opened(broker.bootstrap, timeout_s=1) as connector:
        assert (await connector.send(delivery(1))).result is Result.DELIVERED
        broker.pause()
        try:
            cut_off, away = await connector.send(delivery(2)), await connector.send(delivery(3))
        finally:
            broker.resume()
        async with asyncio.timeout(30):
            while (await connector.send(delivery(4))).result is not Result.DELIVERED:
                pass
    assert cut_off == Receipt(result=Result.UNKNOWN, detail="no acknowledgement within 1 s")
    assert away == Receipt(result=Result.RETRY, detail="no broker was ready within 1 s")


async def test_a_broker_out_of_reach_is_refused_before_anything_is_sent() -> None:
    written = {"type": "kafka", "bootstrap": "127.0.0.1:9092", "topic": TOPIC}
    connector = build("feed", written, environ={}, reach=Reach())
    receipt = await connector.send(delivery())
    await connector.close()
    assert receipt == Receipt(
        result=Result.REFUSED,
        detail="127.0.0.1 is not a public address, and connectors connect to no other. Whoever runs the dispatcher "
        "may permit it with JOURNEY_PRIVATE_TARGETS=127.0.0.1:9092.",
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"bootstrap": "kafka"},
            'setting "bootstrap": "kafka" is not host:port. '
            "It is: Brokers to begin with, host:port, separated by commas.",
        ),
        (
            {"security": "sasl"},
            "username and password_env go with security sasl or sasl_tls, and those need both. "
            "See connectors/README.md.",
        ),
        (
            {"certificate_file": "c.pem"},
            "certificate_file and key_file go together. See connectors/README.md.",
        ),
        (
            {"security": "tls", "ca_file": "/nowhere/ca.pem"},
            'setting "ca_file", "certificate_file" or "key_file": No such file or directory. '
            "Name PEM files that this process may read.",
        ),
    ],
)
def test_settings_that_cannot_work_are_told(settings: dict[str, str], said: str) -> None:
    written = {"type": "kafka", "bootstrap": "kafka-1:9092", "topic": TOPIC} | settings
    with pytest.raises(ConnectorMisconfigured) as error:
        build("feed", written, environ={})
    assert str(error.value) == f'connector "feed": {said}'
