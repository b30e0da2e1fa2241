"""``journey dev`` as a user runs it: one process over a data folder, killed and started again at bad moments.

The oracle is ``journey backtest`` over the same log: what it decides is what the receiver must have got.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from segment.analytics.client import Client

from load_tests.processes import EmbeddedEngine, RoleProcess, journey, unthrottled_rules, until
from load_tests.reconciliation import reconciled
from load_tests.traffic import FORGOTTEN_MS, MINUTE_MS, Event, Mix, Traffic, batches, lead, zone_with_hour
from orchestrator.adapters.clock import SystemClock

pytestmark = pytest.mark.integration

Say = Callable[[str], None]

now_ms = SystemClock().now_ms
#: This customer's hash puts them into the arm of cart-recovery that gets a text.
NUDGED = "customer-1"


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """The shipped rules over connectors without rates, for tests to edit."""
    return unthrottled_rules(tmp_path / "rules", lease="3s")


@pytest.fixture
def engine(tmp_path: Path, rules: Path, say: Say) -> Iterator[EmbeddedEngine]:
    """An engine that runs."""
    with EmbeddedEngine(tmp_path, rules=rules, say=say) as running:
        yield running


def post(engine: EmbeddedEngine, *events: Event) -> None:
    answer = httpx.post(f"{engine.url}/v1/events", json=events)
    assert answer.status_code == 202, answer.text


def received(engine: EmbeddedEngine) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = httpx.get(f"{engine.receiver_url}/v1/received").json()["items"]
    return items


def forgotten_basket(due_in_ms: int) -> tuple[int, list[Event]]:
    """Return when the nudge is due and the events of a basket that was filled half an hour before that."""
    moment_ms = now_ms()
    filled_ms = moment_ms + due_in_ms - FORGOTTEN_MS
    traits = {"country": "IN", "timezone": zone_with_hour(12, moment_ms), "phone": "+919812345678"}
    consent = {"consent": {"categoryPreferences": {"marketing": True}}}
    tale = [
        (filled_ms - 3 * MINUTE_MS, "identify", traits, consent),
        (filled_ms - 2 * MINUTE_MS, "product_viewed", {"product_id": "p1"}, {}),
        (filled_ms - MINUTE_MS, "product_viewed", {"product_id": "p2"}, {}),
        (filled_ms, "cart_updated", {"cart_id": "k1", "total": 80, "item_name": "Trail shoes"}, {}),
    ]
    return filled_ms + FORGOTTEN_MS, [
        {
            "id": f"basket-{place}",
            "type": event_type,
            "customer_id": NUDGED,
            "occurred_at": at_ms,
            "properties": properties,
            "context": context,
        }
        for place, (at_ms, event_type, properties, context) in enumerate(tale)
    ]


def backtest(engine: EmbeddedEngine) -> dict[str, Any]:
    arguments = ["--events", "topic", "--data", str(engine.data), "--rules", str(engine.rules), "--json"]
    done = journey("backtest", *arguments)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# -------------------------------------------------------------------------------------------------- latency


def test_a_lead_is_called_within_a_second(engine: EmbeddedEngine, say: Say) -> None:
    post(engine, lead("asha", now_ms(), source="portal"))
    answered = time.monotonic()
    call = until(lambda: received(engine), within_s=1, because="the call was made", pause_s=0.005)[0]
    say(f"the call was made {(time.monotonic() - answered) * 1000:.0f} ms after the event was acknowledged")
    assert (call["path"], call["customer_id"], call["rule"]) == ("/v1/calls", "asha", "lead-callback")
    assert call["params"]["to"] == "+919812345678"
    assert call["params"]["source"] == "portal"
    assert call["params"]["stage"] == "enquired"
    assert call["facts"]["version"] == httpx.get(f"{engine.url}/v1/rulebooks").json()[0]["version"]
    assert call["deadline_at"] == call["decided_at"] + 5 * MINUTE_MS


# -------------------------------------------------------------------------------------------------- crashes


@pytest.mark.parametrize("down_past_due", [False, True], ids=["due after the restart", "due while it was down"])
def test_an_armed_timer_survives_a_kill_and_fires_once_at_its_due_time(
    engine: EmbeddedEngine, down_past_due: bool
) -> None:
    due_ms, events = forgotten_basket(due_in_ms=6_000)
    post(engine, *events)
    until(lambda: wake_of(engine, NUDGED), within_s=5, because="the timer is armed")
    engine.kill()
    if down_past_due:
        until(lambda: now_ms() > due_ms, within_s=10, because="the due time has passed")
    engine.start()
    nudge = until(lambda: received(engine), within_s=15, because="the nudge arrived")[0]
    assert (nudge["rule"], nudge["kind"], nudge["decided_at"]) == ("cart-recovery", "sms", due_ms)
    assert nudge["params"]["text"] == "Hi there, your basket is waiting: Trail shoes."

    engine.restart(kill=True)
    post(engine, lead("later", now_ms()))
    until(lambda: len(received(engine)) > 1, within_s=10, because="the engine is past its recovery")
    assert [one["rule"] for one in engine.arrivals()] == ["cart-recovery", "lead-callback"]


def wake_of(engine: EmbeddedEngine, customer: str) -> str | None:
    answer = httpx.get(f"{engine.url}/v1/customers/{customer}")
    return answer.json()["next_wake_at"] if answer.status_code == 200 else None


class Producer(threading.Thread):
    """Posts batches in order, each again until it is acknowledged: an engine that is down is waited for."""

    def __init__(self, engine: EmbeddedEngine, events: list[Event]) -> None:
        super().__init__()
        self._url = f"{engine.url}/v1/events"
        self._batches = list(batches(events, 100))
        self.acknowledged = 0
        self.unanswered = 0
        self.failure = ""

    def run(self) -> None:
        with httpx.Client(timeout=10) as client:
            for batch in self._batches:
                while not self._taken(client, batch):
                    time.sleep(0.05)
                if self.failure:
                    return
                self.acknowledged += len(batch)

    def _taken(self, client: httpx.Client, batch: Any) -> bool:
        try:
            answer = client.post(self._url, json=batch)
        except httpx.TransportError:
            self.unanswered += 1
            return False
        if answer.status_code not in {202, 503}:
            self.failure = answer.text
            return True
        return answer.status_code == 202


def test_kills_during_a_burst_lose_nothing_and_repeat_nothing(engine: EmbeddedEngine, say: Say) -> None:
    began_ms = now_ms()
    events = Traffic(seed=21, now_ms=began_ms, mix=Mix(soon_ms=8_000)).events(6_000, customers=600)
    producer, began = Producer(engine, events), time.monotonic()
    producer.start()
    try:
        for share in (0.2, 0.45, 0.7):
            until(
                lambda share=share: producer.acknowledged > share * len(events),
                within_s=60,
                because=f"{share:.0%} of the events are acknowledged",
            )
            engine.restart(kill=True)
    finally:
        producer.join(60)
    assert (producer.failure, producer.acknowledged) == ("", len(events))
    say(f"{len(events)} events over three kills in {time.monotonic() - began:.1f} s")

    until(lambda: now_ms() > began_ms + 10_000, within_s=20, because="every basket of the burst has come due")
    post(engine, lead("last", now_ms()))
    until(lambda: "last" in called(engine), within_s=30, because="everything before the last lead was decided")
    until_ms = max(one["decided_at"] for one in engine.arrivals())

    def result() -> Any:
        return reconciled(found, engine.arrivals(), until_ms)

    found = backtest(engine)
    until(lambda: not result().missing, within_s=20, because="everything that was decided has arrived", pause_s=0.2)
    say(f"{len(result().due)} actions due, {len(result().withdrawn)} withdrawn, {len(result().arrived)} arrived")
    assert result().agrees, result()
    assert len(result().due) > 100
    assert found["events"] - found["duplicates"] >= 6_001
    assert producer.unanswered > 0


def called(engine: EmbeddedEngine) -> set[str]:
    return {one["customer_id"] for one in engine.arrivals()}


# ------------------------------------------------------------------------------------------ life of a process


def test_ctrl_c_ends_it_with_code_0_within_seconds(engine: EmbeddedEngine) -> None:
    post(engine, lead("asha", now_ms()))
    engine.interrupt(timeout_s=5)
    assert engine.exit_code == 0
    assert "stopped; nothing was left half done" in engine.log_path.read_text()


def test_a_second_engine_on_the_same_data_folder_is_refused(engine: EmbeddedEngine, tmp_path: Path) -> None:
    options = ["--rules", str(engine.rules), "--data", str(engine.data), "--port", "0", "--receiver-port", "0"]
    second = RoleProcess("dev", *options, folder=tmp_path / "second")
    second.launch()
    try:
        assert second.wait(20) == 2
    finally:
        second.kill()
    holder = (engine.data / "lock").read_text().strip()
    assert "journey" in Path(f"/proc/{holder}/cmdline").read_text()
    assert second.said().splitlines()[-1] == (
        f"Another engine (process {holder}) runs on the data folder {engine.data}. "
        "Stop it, or choose another with --data."
    )
    post(engine, lead("asha", now_ms()))
    until(lambda: "asha" in called(engine), within_s=5, because="the first engine goes on")


# ------------------------------------------------------------------------------------------------- rule edits


def test_an_edit_takes_effect_within_a_second_and_a_broken_one_changes_nothing(
    engine: EmbeddedEngine, rules: Path, say: Say
) -> None:
    def version() -> str:
        return str(httpx.get(f"{engine.url}/v1/rulebooks").json()[0]["version"])

    journey_file = rules / "real_estate" / "lead_callback.yaml"
    good, first = journey_file.read_text(), version()

    journey_file.write_text(good.replace("deadline: 5m ", "deadline: 7m "))
    edited = time.monotonic()
    until(lambda: version() != first, within_s=1.5, because="the edit is in force")
    say(f"the edit was in force after {time.monotonic() - edited:.2f} s")
    second = version()
    post(engine, lead("asha", now_ms()))
    call = until(lambda: received(engine), within_s=5, because="the call was made")[0]
    assert call["deadline_at"] - call["decided_at"] == 7 * MINUTE_MS
    assert call["facts"]["version"] == second

    line = 1 + good[: good.index("- id: lead-callback")].count("\n")
    journey_file.write_text(good.replace("- id: lead-callback", "- idd: lead-callback"))
    refused = until(lambda: refusal_of(engine), within_s=3, because="the broken edit is refused in the log")
    assert refused[0].endswith(f"the edit was refused, rulebook {second} stays:")
    assert refused[1].startswith(f'{journey_file}:{line}  journey "lead" ')
    assert refused[2].startswith('    unknown key "idd". Allowed: ')
    post(engine, lead("ben", now_ms()))
    call = until(
        lambda: [one for one in received(engine) if one["customer_id"] == "ben"], within_s=5, because="a call"
    )[0]
    assert call["facts"]["version"] == second == version()

    journey_file.write_text(good)
    until(lambda: version() == first, within_s=1.5, because="the mended edit is in force")


def refusal_of(engine: EmbeddedEngine) -> list[str]:
    lines = engine.said().splitlines()
    start = next((number for number, line in enumerate(lines) if "the edit was refused" in line), None)
    return [] if start is None else lines[start : start + 3] if len(lines) >= start + 3 else []


# ------------------------------------------------------------------------------------------------ Segment's SDKs


def test_calls_of_segments_python_library_fire_rules(engine: EmbeddedEngine) -> None:
    zone = zone_with_hour(12, now_ms())
    segment = Client("a-write-key", host=engine.url)
    segment.track(
        "asha",
        "Lead Submitted",
        {"lead_id": "l1", "phone": "+919812345678", "timezone": zone},
        context={"consent": {"categoryPreferences": {"callback": True}}},
    )
    segment.shutdown()
    call = until(lambda: received(engine), within_s=10, because="the call was made")[0]
    assert (call["rule"], call["customer_id"], call["params"]["lead_id"]) == ("lead-callback", "asha", "l1")


def test_calls_of_segments_node_library_fire_rules(engine: EmbeddedEngine, node_library: Path) -> None:
    filled_ms = now_ms() - FORGOTTEN_MS + 2_000
    program = Path(__file__).parent / "segment_node" / "forget_basket.js"
    arguments = [engine.url, NUDGED, str(filled_ms), zone_with_hour(12, now_ms()), str(node_library)]
    done = subprocess.run(["node", str(program), *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "sent\n"), done.stderr
    nudge = until(lambda: received(engine), within_s=15, because="the nudge arrived")[0]
    assert (nudge["rule"], nudge["customer_id"]) == ("cart-recovery", NUDGED)
    assert nudge["params"]["text"] == "Hi there, your basket is waiting: Day pack."
