"""The benchmark's own parts: its traffic, its arithmetic, its table, and that the journeys it compares are the same."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from load_tests.bench import documents, report
from load_tests.bench.capacity import Costs, Deployment, memory, needed
from load_tests.bench.contenders.shop_by_hand import applied
from load_tests.bench.contenders.stopwatch import Stopwatch
from load_tests.bench.figures import Figures
from load_tests.bench.http_load import RequestFailed, post_all
from load_tests.bench.targets import ROWS
from load_tests.core_speed import many_rules
from load_tests.pacer import Plan
from load_tests.shoppers import MINUTE_MS, Shoppers
from orchestrator.core.decide import decide
from orchestrator.core.event import Event
from orchestrator.core.state import CustomerState

START_MS, SPAN_MS = 1_772_442_000_000, 40 * MINUTE_MS
COSTS = Costs(
    worker_us=30,
    gateway_us=50,
    kafka_write_us=4,
    kafka_read_us=2,
    redis_us=6,
    event_bytes=500,
    redis_bytes=600,
    customer_bytes=700,
    ledger_bytes=400,
    timeline_bytes=500,
)


def shoppers(**changes) -> Shoppers:
    return Shoppers(**{"seed": 7, "customers": 500, "start_ms": START_MS, "span_ms": SPAN_MS, **changes})


# ----------------------------------------------------------------------------------------------- traffic


def test_the_same_seed_gives_the_same_arrivals_and_another_gives_others():
    assert shoppers().arrivals(2_000) == shoppers().arrivals(2_000)
    assert shoppers().arrivals(2_000) != shoppers(seed=8).arrivals(2_000)


def test_arrivals_come_in_the_order_of_the_log_though_events_do_not():
    arrivals = shoppers().arrivals(5_000)
    assert len(arrivals) == 5_000
    moments = [arrival.at_ms for arrival in arrivals]
    assert moments == sorted(moments)
    occurred = [arrival.event["occurred_at"] for arrival in arrivals]
    assert occurred != sorted(occurred)
    assert all(arrival.delay_ms >= 0 for arrival in arrivals)
    assert max(arrival.delay_ms for arrival in arrivals) > 5 * MINUTE_MS


def test_about_one_arrival_in_a_hundred_is_a_repeat():
    ids = Counter(arrival.event["id"] for arrival in shoppers().arrivals(20_000))
    repeats = sum(number - 1 for number in ids.values())
    assert 100 < repeats < 300


def test_few_customers_send_much_and_many_send_little():
    by_customer = Counter(arrival.event["customer_id"] for arrival in shoppers().arrivals(20_000))
    numbers = sorted(by_customer.values(), reverse=True)
    assert sum(numbers[: len(numbers) // 10]) > 0.4 * sum(numbers)
    assert numbers[len(numbers) // 2] < sum(numbers) / len(numbers)


def test_evenings_are_busier_than_the_hours_before_dawn():
    hours = Counter(
        (arrival.event["occurred_at"] - START_MS) * 24 // SPAN_MS for arrival in shoppers().arrivals(20_000)
    )
    assert sum(hours[hour] for hour in (19, 20, 21)) > 4 * sum(hours[hour] for hour in (2, 3, 4))


def test_newcomers_introduce_themselves_before_anything_else():
    arrivals = shoppers(newcomers=1.0, delays=((1.0, 0),), repeats=0.0).arrivals(2_000)
    seen: set[str] = set()
    for arrival in arrivals:
        customer_id = arrival.event["customer_id"]
        assert (arrival.event["type"] == "identify") == (customer_id not in seen)
        seen.add(customer_id)


@pytest.mark.parametrize("rate", [50, 333, 10_000])
def test_a_plan_sends_everything_once_at_its_rate(rate):
    arrivals = shoppers().arrivals(3_000)
    ticks = list(Plan(arrivals, rate))
    assert [arrival for tick in ticks for arrival in tick] == arrivals
    assert len(ticks) == pytest.approx(3_000 / rate * 200, abs=2)


# ------------------------------------------------------------------------------------- the same journey


def test_the_journey_by_hand_sends_what_the_rulebook_sends():
    """What the baselines do is the work that the engine does: every rule fires for the same event."""
    rulebook = many_rules(100)
    by_rules: set[tuple[str, str]] = set()
    by_hand: set[tuple[str, str]] = set()
    states: dict[str, CustomerState] = {}
    dicts: dict[str, dict] = {}
    for arrival in shoppers(delays=((1.0, 0),)).arrivals(6_000):
        event, customer_id = arrival.event, arrival.event["customer_id"]
        typed = Event(
            **{name: event[name] for name in ("id", "type", "customer_id", "properties", "context")},
            occurred_at_ms=event["occurred_at"],
            received_at_ms=arrival.at_ms,
        )
        decision = decide(rulebook, states.get(customer_id) or CustomerState(), typed, arrival.at_ms)
        states[customer_id] = decision.state
        by_rules |= {(event["id"], action.rule) for action in decision.actions if not action.cancel}
        dicts[customer_id], actions = applied(dicts.get(customer_id), event)
        by_hand |= {(event["id"], action["rule"]) for action in actions}
    assert len(by_rules) > 300
    assert by_hand == by_rules


# --------------------------------------------------------------------------------------------- figures


def test_the_watch_runs_from_the_end_of_the_warm_up_to_the_last_event(capsys):
    watch = Stopwatch(warm=10, events=50)
    for number in range(1, 6):
        watch.passed(10)
        assert watch.done == (number == 5)
    watch.report(actions=3)
    told = capsys.readouterr().out
    assert '"events": 40' in told
    assert '"actions": 3' in told


def test_a_watch_whose_events_ended_early_reports_nothing():
    watch = Stopwatch(warm=10, events=50)
    watch.passed(20)
    with pytest.raises(RuntimeError, match="the events ended before the watch did"):
        watch.report()


def test_ratios_are_taken_round_by_round():
    """A machine that is half as fast in one round halves both, and their ratio stays."""
    figures = Figures()
    for speed in (1.0, 0.5, 1.0):
        figures.add(worker__per_s=60_000 * speed, read_write__per_s=100_000 * speed)
    assert figures.ratio("worker.per_s", "read_write.per_s") == pytest.approx(0.6)
    assert figures.ratio("worker.per_s", "nobody.per_s") is None


def test_figures_survive_their_file(tmp_path):
    figures = Figures(about={"day": "2026-03-02"})
    figures.add(worker__per_s=1.5)
    figures.point("customers", customers=10, per_s=2.5)
    figures.save(tmp_path / "results.json")
    assert Figures.load(tmp_path / "results.json") == figures


def about() -> dict:
    machine = {"processor": "Some CPU", "cores": 2, "memory_gib": 8, "system": "Linux 6", "python": "3.11.7"}
    told = {"machine": machine, "versions": {"aiokafka": "0.14.0"}, "kafka": "4.1.1", "redis": "7.0.15"}
    return {**told, "rounds": 3, "load_before": 0.1, "day": "2026-03-02"}


def test_the_table_says_for_every_target_whether_it_was_met():
    figures = Figures(about=about())
    figures.add(worker__per_s=40_000, read_write__per_s=100_000, worker__per_cpu_s=45_000)
    lines = report.markdown(figures).splitlines()
    assert "Some CPU, 2 cores, 8 GiB, Linux 6  " in lines
    assert "| one worker, a second of CPU | ≥ 30,000 events | 45,000 events | met |" in lines
    assert "| worker to (b) | ≥ 0.50 | 0.40 | not met |" in lines
    assert "| worker to (c) | ≥ 10.0 | not measured |  |" in lines


def test_a_busy_machine_is_named():
    figures = Figures(about={**about(), "load_before": 3.5})
    assert report.about(figures)[-1] == (
        "The machine was busy before the run began (load 3.5): do not trust figures, only ratios."
    )


def test_every_row_has_a_name_of_its_own():
    names = Counter((row.group, row.name) for row in ROWS)
    assert len(names) > 30
    assert [name for name, number in names.items() if number > 1] == []


def test_text_is_put_between_the_markers_and_nowhere_else(tmp_path):
    path = tmp_path / "doc.md"
    path.write_text("before\n<!-- speed -->\nold \\1\n<!-- /speed -->\nafter\n")
    report.replace_between(path, "speed", "new \\1")
    assert path.read_text() == "before\n<!-- speed -->\nnew \\1\n<!-- /speed -->\nafter\n"
    with pytest.raises(ValueError, match=r"doc\.md has no markers <!-- other --> and <!-- /other -->"):
        report.replace_between(path, "other", "")


def test_the_documents_have_the_places_that_the_benchmark_writes_to():
    for path, names in ((documents.README, ["speed"]), (documents.CAPACITY, ["constants", "examples", "million"])):
        for name in names:
            assert path.read_text().count(f"<!-- {name} -->") == path.read_text().count(f"<!-- /{name} -->") == 1


# --------------------------------------------------------------------------------- the capacity model


def test_a_deployment_carries_what_its_weakest_part_does():
    deployment = Deployment(workers=10, gateways=10, shards=1, brokers=3, broker_cores=8, gbit=10)
    carried = deployment.carries(COSTS)
    assert carried == {
        "gateways": pytest.approx(120_000),
        "brokers, processors": pytest.approx(800_000),
        "brokers, network": pytest.approx(1_500_000),
        "workers": pytest.approx(200_000),
        "Redis, processors": pytest.approx(100_000),
        "Redis, network": pytest.approx(1_250_000),
    }
    assert deployment.bottleneck(COSTS) == ("Redis, processors", pytest.approx(100_000))


def test_what_a_million_events_take_is_what_carries_them():
    cores = needed(COSTS, 1_000_000)
    assert cores["workers"] == pytest.approx(50)
    assert cores["Redis, processors"] == pytest.approx(10)
    assert "brokers, network" not in cores


def test_memory_is_that_of_states_ledger_and_timelines():
    assert memory(COSTS, customers=1_000, actions=0, records=0) == 700_000
    assert memory(COSTS, customers=1_000, actions=2, records=10) == 1_000 * (700 + 2 * 400 + 10 * 500)


def test_costs_are_known_only_when_all_of_them_were_measured():
    figures = Figures()
    figures.add(worker__per_cpu_s=33_333)
    assert Costs.of(figures) is None


# -------------------------------------------------------------------------------------- the HTTP client


async def answering(answer: bytes, taken: list[bytes]) -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            taken.append(await reader.readexactly(length))
            writer.write(answer)

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except asyncio.IncompleteReadError:
            writer.close()

    return await asyncio.start_server(served, "127.0.0.1", 0)


async def test_every_body_is_posted_once():
    taken: list[bytes] = []
    async with await answering(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}", taken) as server:
        port = server.sockets[0].getsockname()[1]
        bodies = [f'{{"id": {number}}}'.encode() for number in range(20)]
        assert await post_all("127.0.0.1", port, "/v1/events", bodies, connections=3) > 0
    assert sorted(taken) == sorted(bodies)


async def test_a_refusal_ends_the_load():
    async with await answering(b"HTTP/1.1 503 Unavailable\r\nContent-Length: 4\r\n\r\nbusy", []) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ExceptionGroup) as raised:
            await post_all("127.0.0.1", port, "/v1/events", [b"{}"], connections=1)
    assert raised.group_contains(RequestFailed, match="503 Unavailable")
