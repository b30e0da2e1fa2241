"""The distributed engine as operators run it: every role a process of its own over a real Kafka and Redis.

The oracle is ``journey backtest`` over the same log: what it decides is what the receiver must have got.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from load_tests.deployment import Deployment
from load_tests.processes import RoleProcess, unthrottled_rules, until
from load_tests.reconciliation import Reconciliation, reconciled
from load_tests.traffic import Event, Mix, Traffic, batches, lead
from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.kafka_log import KafkaEventLog
from orchestrator.adapters.kafka_topics import partition_of
from orchestrator.runtime.ports import EVENTS, Outgoing

pytestmark = pytest.mark.integration

PARTITIONS = 8
BATCH = 500
Say = Callable[[str], None]

now_ms = SystemClock().now_ms


@pytest.fixture
def client(deployment: Deployment) -> Iterator[httpx.Client]:
    with deployment.client() as opened:
        yield opened


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, say: Say) -> Iterator[Deployment]:
    """One deployment for all tests: each has customers of its own, and each reconciles the whole log."""
    folder, began = tmp_path_factory.mktemp("deployment"), time.monotonic()
    with Deployment(folder, unthrottled_rules(folder / "rules"), partitions=PARTITIONS, say=say) as running:
        say(f"Kafka, Redis and five roles answer after {time.monotonic() - began:.1f} s")
        yield running


class Poster:
    """Posts events in order, and each batch again until it is acknowledged, as a producer should."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self.acknowledged = 0

    def post(self, events: Sequence[Event]) -> None:
        """Return when every event is acknowledged."""
        for batch in batches(events, BATCH):
            answer = self._client.post("/v1/events", json=batch)
            while answer.status_code == 503:
                answer = self._client.post("/v1/events", json=batch)
            assert answer.status_code == 202, answer.text
            self.acknowledged += len(batch)

    @contextmanager
    def posting(self, events: Sequence[Event]) -> Iterator[None]:
        """Post beside the block; leaving it waits until all are acknowledged."""
        failures: list[BaseException] = []

        def work() -> None:
            try:
                self.post(events)
            except BaseException as failure:
                failures.append(failure)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            thread.join()
        assert failures == []


def one_lead_per_partition(name: str) -> list[Event]:
    """Leads that reach the receiver only once every partition has been read as far as them."""
    chosen: dict[int, str] = {}
    number = 0
    while len(chosen) < PARTITIONS:
        customer = f"{name}-{number}"
        chosen.setdefault(partition_of(customer.encode(), PARTITIONS), customer)
        number += 1
    return [lead(customer, now_ms()) for customer in chosen.values()]


def await_calls(deployment: Deployment, leads: Sequence[Event], *, within_s: float) -> None:
    wanted = {one["customer_id"] for one in leads}
    until(
        lambda: wanted <= {one["customer_id"] for one in deployment.arrivals()},
        within_s=within_s,
        because="every partition's lead was called",
        pause_s=0.05,
    )


def await_states(client: httpx.Client, leads: Sequence[Event], *, within_s: float) -> None:
    waiting = [one["customer_id"] for one in leads]

    def applied() -> bool:
        waiting[:] = [one for one in waiting if client.get(f"/v1/customers/{one}").status_code == 404]
        return not waiting

    until(applied, within_s=within_s, because="every partition's lead was applied")


def reconcile(deployment: Deployment, until_ms: int) -> tuple[Reconciliation, dict[str, Any]]:
    """Wait until everything decided by ``until_ms`` is due, and compare once all of it has arrived or time is up."""
    until(lambda: now_ms() > until_ms + 1_000, within_s=120, because="the moment of comparison has passed")
    found = deployment.backtest(until_ms)
    deadline = time.monotonic() + 30
    while (result := reconciled(found, deployment.arrivals(), until_ms)).missing and time.monotonic() < deadline:
        time.sleep(0.2)
    return result, found


def repeats(deployment: Deployment) -> int:
    """How many deliveries the receiver has had before, ever."""
    return int(httpx.get(f"{deployment.receiver.url}/v1/received").json()["repeats"])


def assert_agrees(deployment: Deployment, result: Reconciliation) -> None:
    logs = f"the logs are in {deployment.gateway.folder.parent}"
    assert sorted(result.missing) == [], logs
    assert sorted(result.unknown) == [], logs
    assert sorted(result.twice) == [], logs


def test_fifty_thousand_events_and_a_killed_worker_give_every_action_exactly_once(
    deployment: Deployment, client: httpx.Client, say: Say
) -> None:
    began_ms = now_ms()
    events = Traffic(seed=11, now_ms=began_ms, run="kill", mix=Mix(soon_ms=45_000)).events(50_000, customers=5_000)
    poster, began = Poster(client), time.monotonic()
    with poster.posting(events):
        until(lambda: poster.acknowledged >= 20_000, within_s=120, because="20,000 events are acknowledged")
        killed = time.monotonic()
        deployment.remove_worker().kill()
        successor = deployment.add_worker()
        canaries = one_lead_per_partition("after-the-kill")
        Poster(client).post(canaries)
        await_states(client, canaries, within_s=60)
        recovered_s = time.monotonic() - killed
        successor.await_ready()
    posted_s = time.monotonic() - began
    last = one_lead_per_partition("after-the-burst")
    poster.post(last)
    await_calls(deployment, last, within_s=120)
    drained_s = time.monotonic() - began
    say(
        f"{len(events)} events acknowledged in {posted_s:.1f} s ({len(events) / posted_s:.0f}/s), decided and "
        f"delivered in {drained_s:.1f} s; {recovered_s:.1f} s from the kill until every partition went on"
    )

    until_ms = max(now_ms(), began_ms + 45_000) + 1_000
    result, found = reconcile(deployment, until_ms)
    assert_agrees(deployment, result)
    assert repeats(deployment) == 0
    say(
        f"{len(result.due)} actions due, {len(result.withdrawn)} withdrawn, {len(result.arrived)} arrived; "
        f"{found['duplicates']} duplicates in {found['events']} records"
    )
    mine = [one for one in found["actions"] if one["customer_id"].startswith("kill-") and not one.get("cancel")]
    assert {"cart-recovery", "lead-callback"} <= {one["rule"] for one in mine if one["decided_at"] <= until_ms}
    assert len(mine) > 1_500
    assert found["duplicates"] >= len(events) - 50_000 > 300


def test_a_rolling_restart_of_both_workers_loses_nothing_and_repeats_nothing(
    deployment: Deployment, client: httpx.Client, say: Say
) -> None:
    began_ms = now_ms()
    events = Traffic(seed=12, now_ms=began_ms, run="rolling", mix=Mix(soon_ms=20_000)).events(10_000, customers=1_000)
    poster, began = Poster(client), time.monotonic()
    old: list[RoleProcess] = []
    with poster.posting(events):
        for _ in range(2):
            deployment.add_worker().await_ready()
            old.append(deployment.remove_worker())
            old[-1].stop()
    last = one_lead_per_partition("after-the-restart")
    poster.post(last)
    await_calls(deployment, last, within_s=120)
    say(f"two workers were replaced and 10,000 events delivered in {time.monotonic() - began:.1f} s")

    assert [worker.exit_code for worker in old] == [0, 0]
    result, _ = reconcile(deployment, max(now_ms(), began_ms + 20_000) + 1_000)
    assert_agrees(deployment, result)
    assert repeats(deployment) == 0
    assert sum(one["customer_id"].startswith("rolling-") for one in deployment.arrivals()) > 200


def test_the_gateway_answers_503_while_kafka_is_away_and_goes_on_unattended(deployment: Deployment, say: Say) -> None:
    before, after = one_lead_per_partition("before"), one_lead_per_partition("after")
    with deployment.client() as client:
        assert client.post("/v1/events", json=before).status_code == 202
        deployment.kafka.kill()
        try:
            refused = client.post("/v1/events", json=after)
        finally:
            deployment.kafka.start()
            back = time.monotonic()
        problem = refused.json()
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert problem["title"] == "Service Unavailable"
        assert problem["remedy"] == "Nothing was acknowledged: send the same request again."
        until(
            lambda: client.post("/v1/events", json=after).status_code == 202,
            within_s=60,
            because="the gateway takes events again",
        )
        say(f"the gateway took events {time.monotonic() - back:.1f} s after Kafka was back")
    await_calls(deployment, [*before, *after], within_s=60)
    say(f"every partition's call was made {time.monotonic() - back:.1f} s after Kafka was back")
    result, _ = reconcile(deployment, now_ms())
    assert_agrees(deployment, result)


def test_a_poison_record_becomes_one_dead_letter_and_its_neighbours_are_processed(deployment: Deployment) -> None:
    before = lead("neighbour", now_ms())
    after = {**before, "id": "later", "type": "site_visit_booked"}
    with deployment.client() as client:
        assert client.post("/v1/events", json=before).status_code == 202
        asyncio.run(append(deployment, Outgoing(EVENTS, b"neighbour", b'{"id": "broken", ')))
        assert client.post("/v1/events", json=after).status_code == 202
        until(
            lambda: stage_of(client, "neighbour") == "visit",
            within_s=30,
            because="the event after the poison was applied",
        )
        await_calls(deployment, [before], within_s=30)
        letters = until(lambda: client.get("/v1/dead-letters").json(), within_s=30, because="there is a dead letter")
    assert [(one["origin"], one["code"], one["value"]) for one in letters] == [
        ("worker", "not_json", '{"id": "broken", ')
    ]


def test_an_anonymous_profile_merges_across_partitions_and_erasing_it_leaves_nothing(deployment: Deployment) -> None:
    """Both ids live on partitions of their own, so every step goes through the log."""
    known, visitor = two_partitions(PARTITIONS)
    with deployment.client() as client:
        basket = event(visitor, "cart_updated", cart_id=f"{visitor}-cart", total=80.0)
        basket["context"] = {"consent": {"categoryPreferences": {"marketing": True}}}
        refusal = event(known, "consent_changed", marketing=False)
        assert client.post("/v1/events", json=[basket, refusal]).is_success
        until(lambda: client.get(f"/v1/customers/{visitor}").is_success, within_s=20, because="the visitor is known")
        alias = {"userId": known, "previousId": visitor, "messageId": f"{known}-alias"}
        assert client.post("/v1/alias", json=alias).is_success
        until(lambda: runs_of(client, known), within_s=20, because="the basket is the known customer's")
        assert runs_of(client, known) == [("purchase", f"{visitor}-cart", "basket")]
        assert client.get(f"/v1/customers/{known}").json()["consents"]["marketing"] is False
        assert client.get(f"/v1/customers/{visitor}").json()["merged_into"] == known
        assert client.delete(f"/v1/customers/{known}").status_code == 202
        until(
            lambda: client.get(f"/v1/customers/{known}").status_code == 404,
            within_s=20,
            because="nothing is left of it",
        )
        late = event(visitor, "cart_updated", cart_id=f"{visitor}-cart", total=90.0)
        late["occurred_at"] -= 60_000
        assert client.post("/v1/events", json=[late]).is_success
        last = event(known, "product_viewed", product_id="shoes")
        assert client.post("/v1/events", json=[last]).is_success
        until(lambda: client.get(f"/v1/customers/{known}").is_success, within_s=20, because="a new customer begins")
        assert runs_of(client, known) == []


def two_partitions(partitions: int) -> tuple[str, str]:
    """Return two customer ids that live on different partitions."""
    ids = [f"merge-{number}" for number in range(50)]
    known = ids[0]
    other = next(
        one for one in ids if partition_of(one.encode(), partitions) != partition_of(known.encode(), partitions)
    )
    return known, other


def event(customer: str, event_type: str, **properties: Any) -> Event:
    return {
        "id": f"{customer}-{event_type}-{now_ms()}",
        "type": event_type,
        "customer_id": customer,
        "occurred_at": now_ms(),
        "properties": properties,
    }


def runs_of(client: httpx.Client, customer: str) -> list[tuple[str, str, str]]:
    answer = client.get(f"/v1/customers/{customer}")
    runs = answer.json()["runs"] if answer.is_success else []
    return [(run["journey"], run["key"], run["stage"]) for run in runs]


async def append(deployment: Deployment, record: Outgoing) -> None:
    log = KafkaEventLog(deployment.kafka.bootstrap)
    await log.append([record])
    await log.close()


def stage_of(client: httpx.Client, customer: str) -> str:
    answer = client.get(f"/v1/customers/{customer}")
    runs = answer.json()["runs"] if answer.status_code == 200 else []
    return runs[0]["stage"] if runs else ""
