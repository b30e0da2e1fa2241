"""The distributed engine over a Redis Cluster: states, outboxes and queues spread over nodes that may die."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from load_tests.deployment import Deployment
from load_tests.processes import unthrottled_rules, until
from load_tests.servers import LocalRedisCluster
from load_tests.traffic import Event, lead
from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.kafka_topics import partition_of

pytestmark = pytest.mark.integration

PARTITIONS = 8
LEADS = 40

now_ms = SystemClock().now_ms


class Clustered(Deployment):
    """A deployment whose roles know only the first node of a cluster."""

    def __init__(self, folder: Path, rules: Path, cluster: LocalRedisCluster, **options: Any) -> None:
        self.cluster = cluster
        super().__init__(folder, rules, **options)

    def store(self) -> Mapping[str, str]:
        return {"JOURNEY_REDIS_URL": self.cluster.url, "JOURNEY_REDIS_CLUSTER": "true"}


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clustered]:
    folder = tmp_path_factory.mktemp("clustered")
    with LocalRedisCluster(folder / "cluster", nodes=2) as cluster:
        rules = unthrottled_rules(folder / "rules")
        with Clustered(folder, rules, cluster, partitions=PARTITIONS, workers=1) as running:
            yield running


def leads(run: str) -> list[Event]:
    """Leads whose call is due at once; together they reach every partition."""
    chosen = [f"{run}-{number}" for number in range(LEADS)]
    assert {partition_of(one.encode(), PARTITIONS) for one in chosen} == set(range(PARTITIONS))
    return [lead(customer, now_ms()) for customer in chosen]


def calls(deployment: Deployment, events: Sequence[Event]) -> list[str]:
    wanted = {one["customer_id"] for one in events}
    return sorted(one["customer_id"] for one in deployment.arrivals() if one["customer_id"] in wanted)


def await_calls(deployment: Deployment, events: Sequence[Event]) -> None:
    until(lambda: len(calls(deployment, events)) >= LEADS, within_s=60, because="every lead was called")
    assert calls(deployment, events) == sorted(one["customer_id"] for one in events)


def test_every_lead_is_called_once_and_each_node_keeps_its_share_of_the_states(deployment: Clustered) -> None:
    asked = leads("spread")
    with deployment.client() as client:
        assert client.post("/v1/events", json=asked).status_code == 202
        await_calls(deployment, asked)
        known = until(lambda: _timeline(client, "spread-7"), within_s=30, because="the timeline has the call")
    assert "lead_submitted" in known
    for node in deployment.cluster.nodes:
        with Redis(port=node.port) as store:
            assert [*store.scan_iter("*:states")] != []
    with Redis(port=deployment.redis.port) as beside:
        assert beside.dbsize() == 0


def _timeline(client: Any, customer_id: str) -> str:
    answer = client.get(f"/v1/customers/{customer_id}/timeline")
    return answer.text if answer.status_code == 200 and "lead-callback" in answer.text else ""


@pytest.mark.parametrize("place", [0, 1])
def test_a_node_that_is_killed_and_comes_back_has_lost_nothing(deployment: Clustered, place: int) -> None:
    asked = leads(f"killed-{place}")
    half = LEADS // 2
    with deployment.client() as client:
        assert client.post("/v1/events", json=asked[:half]).status_code == 202
        deployment.cluster.nodes[place].restart(kill=True)
        assert client.post("/v1/events", json=asked[half:]).status_code == 202
    await_calls(deployment, asked)


def test_the_doctor_finds_the_cluster_in_order(deployment: Clustered) -> None:
    done = deployment.journey("doctor", "--distributed")
    assert "good  Redis: 7." in done.stdout, done.stdout
