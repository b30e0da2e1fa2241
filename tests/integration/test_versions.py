"""Versions as their author meets them: plan, publish, roll back, restart, over a running engine (scenario 13)."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from load_tests.deployment import Deployment
from load_tests.processes import EmbeddedEngine, journey, until
from orchestrator.adapters.clock import SystemClock

pytestmark = pytest.mark.integration

now_ms = SystemClock().now_ms

FILES = {
    "tracking_plan.yaml": """
events:
  kyc_started: {}
  kyc_completed: {}
consents: {service: Service}
""",
    "connectors.yaml": """
connectors:
  email:
    type: webhook
    kind: email
    settings: {url: "${RECEIVER_URL}/hooks/email"}
    delivery: {concurrency: 50, lease: 3s}
""",
    "templates.yaml": """
templates:
  begun: {kind: email, params: {subject: Begun}}
  nudge: {kind: email, params: {subject: "Go on, says the first version"}}
""",
    "kyc.yaml": """
journey: kyc
title: Know your customer
stages:
  started:   {on: {event: kyc_started}}
  completed: {on: {event: kyc_completed}, goal: true}
rules:
  - id: guide
    title: Guide through
    on: {event: kyc_started}
    do:
      - send: {connector: email, template: begun}
      - wait: 3s
      - send: {connector: email, template: nudge}
    limits: {consent: [service]}
""",
}
CONSENT = {"consent": {"categoryPreferences": {"service": True}}}


def write(folder: Path) -> Path:
    """Write the rules as they are at first."""
    folder.mkdir(exist_ok=True)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


def edited(folder: Path, *edits: tuple[str, str, str]) -> Path:
    """Write the rules with edits: in which file, what, and by what it is replaced."""
    write(folder)
    for name, old, new in edits:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))
    return folder


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EmbeddedEngine]:
    with EmbeddedEngine(tmp_path, rules=write(tmp_path / "rules")) as running:
        yield running


def second_version(tmp_path: Path, mode: str = "pin") -> Path:
    """The nudge speaks for the second version, after the same wait."""
    return edited(
        tmp_path / f"second-{mode}",
        ("templates.yaml", "first version", "second version"),
        ("kyc.yaml", "stages:", f"on_edit: {mode}\nstages:"),
    )


def begin(engine: EmbeddedEngine, *customers: str) -> None:
    events = [
        {
            "id": f"{customer}-begins",
            "type": "kyc_started",
            "customer_id": customer,
            "occurred_at": now_ms(),
            "context": CONSENT,
        }
        for customer in customers
    ]
    answer = httpx.post(f"{engine.url}/v1/events", json=events)
    assert answer.status_code == 202, answer.text


def command(engine: EmbeddedEngine, *arguments: str, code: int = 0) -> str:
    done = journey(*arguments, "--url", engine.url)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def versions(engine: EmbeddedEngine) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{engine.url}/v1/rulebooks").json()
    return found


def nudges(engine: EmbeddedEngine) -> dict[str, tuple[str, str]]:
    """Return subject and version of each customer's nudge that has arrived."""
    return {
        one["customer_id"]: (one["params"]["subject"], one["facts"]["version"])
        for one in engine.arrivals()
        if one["params"]["subject"] != "Begun"
    }


@pytest.mark.parametrize(("mode", "speaks"), [("pin", "first"), ("follow", "second")])
def test_an_edit_plans_publishes_and_treats_running_plays_as_it_declares(
    engine: EmbeddedEngine, tmp_path: Path, mode: str, speaks: str
) -> None:
    # The plays wait long enough for a person to plan and publish.
    before, longer = versions(engine), ("kyc.yaml", "wait: 3s", "wait: 10s")
    edited(engine.rules, longer)
    until(lambda: versions(engine) != before, within_s=5, because="the folder's edit is in force")
    folder = second_version(tmp_path, mode)
    (folder / "kyc.yaml").write_text((folder / "kyc.yaml").read_text().replace(*longer[1:]))
    first = versions(engine)[0]["version"]
    begin(engine, "asha", "ben")
    until(lambda: len(engine.arrivals()) == 2, within_s=5, because="both were written to")

    planned = command(engine, "plan", str(folder))
    assert 'journey "kyc" changed: on_edit' in planned
    assert 'template "nudge" changed: params subject Go on, says the first version → Go on, says the second' in planned
    fate = "2 keep their version" if mode == "pin" else "2 follow"
    assert f"  kyc ({mode}): 2 open runs; 2 plays ({fate}); 2 timers\n" in planned

    published = command(engine, "publish", str(folder), "--note", "the second speaks")
    second = versions(engine)[0]["version"]
    assert published == f"version {second} is in force\n"
    begin(engine, "chen")
    found = until(lambda: nudges(engine) if len(nudges(engine)) == 3 else None, within_s=25, because="all nudged")
    old = (f"Go on, says the {speaks} version", first if mode == "pin" else second)
    assert found == {"asha": old, "ben": old, "chen": ("Go on, says the second version", second)}


def test_rolling_back_takes_less_than_a_second_and_loses_no_event(engine: EmbeddedEngine, tmp_path: Path) -> None:
    first = versions(engine)[0]["version"]
    command(engine, "publish", str(second_version(tmp_path)))
    second = versions(engine)[0]["version"]
    customers = [f"customer-{number}" for number in range(120)]
    failures: list[BaseException] = []

    def post() -> None:
        try:
            for customer in customers:
                begin(engine, customer)
        except BaseException as failure:
            failures.append(failure)

    posting = threading.Thread(target=post)
    posting.start()
    until(engine.arrivals, within_s=5, because="events flow")
    began = time.monotonic()
    answer = httpx.post(f"{engine.url}/v1/rulebooks/{first}/activate", json={"author": "ann"})
    assert (answer.status_code, answer.json()["version"], answer.json()["active"]) == (200, first, True)
    assert versions(engine)[0]["version"] == first
    assert time.monotonic() - began < 1
    posting.join()
    assert not failures, failures

    until(lambda: len(nudges(engine)) == len(customers), within_s=15, because="everyone was nudged, none lost")
    arrived = [(one["customer_id"], one["params"]["subject"]) for one in engine.arrivals()]
    assert len(arrived) == len(set(arrived)) == 2 * len(customers)
    begun = {
        one["customer_id"]: one["facts"]["version"] for one in engine.arrivals() if one["params"]["subject"] == "Begun"
    }
    assert set(begun.values()) == {first, second}
    # Every play went on with the version that began it.
    assert {customer: version for customer, (_, version) in nudges(engine).items()} == begun


def test_a_restart_comes_back_with_the_active_version_until_the_folder_changes(
    engine: EmbeddedEngine, tmp_path: Path
) -> None:
    first = versions(engine)[0]["version"]
    command(engine, "publish", str(second_version(tmp_path)))
    second = versions(engine)[0]["version"]
    begin(engine, "asha")
    engine.kill()
    engine.start()
    assert [(one["version"], one["active"]) for one in versions(engine)] == [(second, True), (first, False)]
    until(lambda: nudges(engine).get("asha"), within_s=10, because="the play went on")
    assert nudges(engine)["asha"][1] == second

    engine.kill()
    edited(engine.rules, ("kyc.yaml", "wait: 3s", "wait: 4s"))
    engine.start()
    third = versions(engine)[0]
    assert third["version"] not in {first, second}
    assert (third["active"], third["author"]) == (True, "folder")


def test_a_play_that_is_pinned_goes_on_with_its_version_after_a_restart(engine: EmbeddedEngine, tmp_path: Path) -> None:
    first = versions(engine)[0]["version"]
    begin(engine, "asha")
    until(engine.arrivals, within_s=5, because="the play began")
    command(engine, "publish", str(second_version(tmp_path)))
    engine.kill()
    engine.start()
    until(lambda: nudges(engine), within_s=10, because="the play went on")
    assert nudges(engine) == {"asha": ("Go on, says the first version", first)}


def test_publications_and_kills_amid_a_stream_leave_every_customer_to_one_version_and_lose_nobody(
    engine: EmbeddedEngine, tmp_path: Path
) -> None:
    folders = [tmp_path / "rules", second_version(tmp_path)]
    customers: list[str] = []
    for turn in range(4):
        batch = [f"customer-{turn}-{number}" for number in range(40)]
        begin(engine, *batch)
        customers += batch
        publishing = threading.Thread(
            target=journey, args=("publish", str(folders[(turn + 1) % 2]), "--url", engine.url)
        )
        publishing.start()
        begin(engine, *(mid := [f"customer-{turn}-mid-{number}" for number in range(40)]))
        customers += mid
        if turn % 2:
            engine.kill()
            publishing.join()
            engine.start()
        else:
            publishing.join()
    until(lambda: len(nudges(engine)) == len(customers), within_s=30, because="everyone was nudged, none lost")
    speaks = {"first": set(), "second": set()}
    for subject, version in nudges(engine).values():
        speaks["first" if "first" in subject else "second"].add(version)
    assert [len(versions_of) for versions_of in speaks.values()] == [1, 1], "each version sends its own words"
    arrived = [(one["customer_id"], one["params"]["subject"]) for one in engine.arrivals()]
    assert len(arrived) == len(set(arrived)) == 2 * len(customers)
    begun = {
        one["customer_id"]: one["facts"]["version"] for one in engine.arrivals() if one["params"]["subject"] == "Begun"
    }
    assert {customer: version for customer, (_, version) in nudges(engine).items()} == begun


def test_a_broken_rulebook_is_refused_with_line_and_reason(engine: EmbeddedEngine, tmp_path: Path) -> None:
    first = versions(engine)
    folder = edited(tmp_path / "broken", ("kyc.yaml", "wait: 3s", "wait: soon"))
    said = command(engine, "publish", str(folder), code=1)
    assert said.startswith(f'{folder}/kyc.yaml:13  journey "kyc"')
    assert 'wait: expected a span such as 2h, or {until: "09:00"}, got "soon"' in said

    texts = {path.name: path.read_text() for path in folder.iterdir()}
    answer = httpx.post(f"{engine.url}/v1/rulebooks", json={"files": texts})
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    problem = answer.json()
    assert problem["detail"] == "The rulebook has 1 problem; the version in force stays."
    assert [(one["field"], one["detail"]) for one in problem["errors"]] == [
        (
            "kyc.yaml:13",
            'journey "kyc": rule "guide": wait: expected a span such as 2h, or {until: "09:00"}, got "soon"',
        )
    ]
    assert versions(engine) == first
    assert "was never published" in command(engine, "rollback", "0123456789ab", code=1)


def test_a_plan_with_events_lists_exactly_the_customers_whose_outcome_changes(
    engine: EmbeddedEngine, tmp_path: Path
) -> None:
    begin(engine, "asha", "ben")
    until(lambda: len(nudges(engine)) == 2, within_s=10, because="both were nudged")
    unconsented = {"id": "no", "type": "kyc_started", "customer_id": "chen", "occurred_at": now_ms(), "context": {}}
    httpx.post(f"{engine.url}/v1/events", json=unconsented).raise_for_status()
    begin(engine, "late")
    folder = second_version(tmp_path)
    found = json.loads(command(engine, "plan", str(folder), "--events", "topic", "--data", str(engine.data), "--json"))
    changed = {one["customer_id"]: [sent["params"]["subject"] for sent in one["after"]] for one in found["outcomes"]}
    assert changed == {customer: ["Begun", "Go on, says the second version"] for customer in ("asha", "ben")}
    same = write(tmp_path / "same")
    found = json.loads(command(engine, "plan", str(same), "--events", "topic", "--data", str(engine.data), "--json"))
    assert (found["outcomes"], found["changes"]) == ([], [])
    shutil.rmtree(same)


# -------------------------------------------------------------------------------------------- distributed


def test_every_role_of_a_distributed_engine_follows_a_publication_and_a_rollback(tmp_path: Path) -> None:
    with Deployment(tmp_path, write(tmp_path / "rules"), partitions=4) as running, running.client() as client:

        def asks(customer: str, event_type: str = "kyc_started") -> dict[str, Any]:
            return {
                "id": f"{customer}-begins",
                "type": event_type,
                "customer_id": customer,
                "occurred_at": now_ms(),
                "context": CONSENT,
            }

        def began(customers: list[str]) -> dict[str, str]:
            arrived = {
                one["customer_id"]: one["facts"]["version"]
                for one in running.arrivals()
                if one["params"]["subject"] == "Begun"
            }
            return {one: arrived[one] for one in customers} if arrived.keys() >= set(customers) else {}

        def all_of(turn: str) -> set[str]:
            """Let customers on all partitions begin; return the versions by which they were written to."""
            customers = [f"{turn}-{number}" for number in range(20)]
            assert client.post("/v1/events", json=[asks(one) for one in customers]).status_code == 202
            return set(until(lambda: began(customers), within_s=20, because=f"{turn} were written to").values())

        first = client.get("/v1/rulebooks").json()[0]["version"]
        assert all_of("early") == {first}

        # The second version knows an event that the first one does not.
        folder = edited(
            tmp_path / "second", ("tracking_plan.yaml", "  kyc_started: {}", "  kyc_started: {}\n  kyc_left: {}")
        )
        assert client.post("/v1/events", json=[asks("new", "kyc_left")]).status_code == 400
        texts = {path.name: path.read_text() for path in folder.iterdir()}
        published = client.post("/v1/rulebooks", json={"files": texts, "author": "ann"})
        assert published.status_code == 201, published.text
        second = published.json()["version"]
        until(
            lambda: client.post("/v1/events", json=[asks("new", "kyc_left")]).status_code == 202,
            within_s=5,
            because="the gateway takes the new event once every worker does",
        )
        assert all_of("later") == {second}
        assert client.get("/v1/dead-letters").json() == []

        rolled_back = client.post(f"/v1/rulebooks/{first}/activate", json={})
        answered = time.monotonic()
        assert rolled_back.status_code == 200, rolled_back.text
        until(lambda: time.monotonic() > answered + 1, within_s=2, because="every role had its second to switch")
        assert all_of("last") == {first}

        worker = running.workers[0]
        worker.kill()
        worker.start()
        assert all_of("restarted") == {first}
        listed = [(one["version"], one["active"], one["author"]) for one in client.get("/v1/rulebooks").json()]
        assert listed == [(first, True, "folder"), (second, False, "ann")]
        until(
            lambda: len([one for one in running.arrivals() if one["params"]["subject"] != "Begun"]) == 80,
            within_s=30,
            because="every play came to its end",
        )
