"""What the receiver remembers, in memory and in its file."""

from __future__ import annotations

import json
import os
import resource
import stat
from pathlib import Path

import pytest

from connectors.receiver import arrivals as arrivals_module
from connectors.receiver.arrivals import Arrival, Arrivals
from connectors.receiver.faults import Fault, Faults
from connectors.receiver.intake import BodyRefused, call_arrival, hook_arrival


def arrival(name: str, *, path: str = "/v1/calls", kind: str = "call") -> Arrival:
    return Arrival(at_ms=1_000, path=path, id=name, kind=kind, params={"to": "+919812345678"})


def test_an_id_counts_once_a_path() -> None:
    arrivals = Arrivals(keep=10)
    assert [arrivals.take(arrival("a")), arrivals.take(arrival("a")), arrivals.take(arrival("a", path="/hooks/x"))] == [
        True,
        False,
        True,
    ]
    assert (arrivals.total, arrivals.repeats) == (2, 1)
    assert [(kept.path, kept.repeats) for kept in arrivals.latest(10)] == [("/hooks/x", 0), ("/v1/calls", 1)]


def test_only_the_latest_are_kept_but_all_are_known() -> None:
    arrivals = Arrivals(keep=2)
    for name in "abc":
        arrivals.take(arrival(name))
    assert [kept.id for kept in arrivals.latest(10)] == ["c", "b"]
    assert arrivals.take(arrival("a")) is False
    assert (arrivals.total, arrivals.repeats) == (3, 1)


def test_the_oldest_ids_are_forgotten_at_the_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals_module, "IDS_MAX", 2)
    arrivals = Arrivals(keep=1)
    for name in "abc":
        arrivals.take(arrival(name))
    assert arrivals.take(arrival("c")) is False
    assert arrivals.take(arrival("a")) is True


def test_the_latest_of_one_kind_can_be_asked_for() -> None:
    arrivals = Arrivals(keep=10)
    arrivals.take(arrival("a", kind="sms"))
    arrivals.take(arrival("b"))
    arrivals.take(arrival("c", kind="sms"))
    assert [kept.id for kept in arrivals.latest(1, "sms")] == ["c"]


def test_a_restart_knows_the_recorded_ids(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "calls.jsonl"
    first = Arrivals(keep=10, record_path=path)
    first.take(arrival("a"))
    first.take(arrival("a"))
    first.take(arrival("b"))
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["a", "b"]
    first.close()
    second = Arrivals(keep=10, record_path=path)
    assert second.total == 2
    assert second.take(arrival("b")) is False
    assert second.take(arrival("c")) is True
    second.close()
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["a", "b", "c"]


def test_the_record_is_for_its_owner_alone(tmp_path: Path) -> None:
    made, older = tmp_path / "deep" / "calls.jsonl", tmp_path / "older.jsonl"
    older.touch(0o644)
    older.chmod(0o644)
    for path in (made, older):
        Arrivals(keep=10, record_path=path).close()
    assert [stat.filemode(path.stat().st_mode) for path in (made.parent, made, older)] == [
        "drwx------",
        "-rw-------",
        "-rw-------",
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_a_record_of_somebody_else_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.touch()
    path.chmod(0o640)
    os.chown(path, 65534, 65534)
    Arrivals(keep=10, record_path=path).close()
    assert stat.filemode(path.stat().st_mode) == "-rw-r-----"


def test_a_line_that_a_crash_cut_short_never_arrived(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    first = Arrivals(keep=10, record_path=path)
    first.take(arrival("a"))
    first.take(arrival("b"))
    first.close()
    path.write_bytes(path.read_bytes()[:-7])
    second = Arrivals(keep=10, record_path=path)
    assert second.total == 1
    assert second.take(arrival("b")) is True
    second.close()
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["a", "b"]


def test_clearing_forgets_the_file_too(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    arrivals = Arrivals(keep=10, record_path=path)
    arrivals.take(arrival("a"))
    arrivals.clear()
    assert (arrivals.total, arrivals.latest(10), path.read_bytes()) == (0, [], b"")
    assert arrivals.take(arrival("a")) is True
    arrivals.close()


def test_nothing_has_arrived_when_the_file_cannot_take_it(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    arrivals = Arrivals(keep=10, record_path=path)
    arrivals.take(arrival("a"))
    full = path.stat().st_size + 20
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (full, before[1]))
    try:
        with pytest.raises(OSError, match="only 20 of"):
            arrivals.take(arrival("b"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert arrivals.total == 1
    assert arrivals.take(arrival("b")) is True
    arrivals.close()
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["a", "b"]


def test_a_device_is_no_record() -> None:
    with pytest.raises(OSError, match="/dev/full is not a regular file"):
        Arrivals(keep=10, record_path=Path("/dev/full"))


def test_a_fault_is_used_up_and_an_exact_path_comes_first() -> None:
    faults = Faults()
    faults.order(Fault(path="*", status=500, times=2))
    faults.order(Fault(path="/v1/calls", status=503))
    met = [faults.next("/v1/calls"), faults.next("/v1/calls"), faults.next("/hooks/x"), faults.next("/hooks/x")]
    assert [fault and fault.status for fault in met] == [503, 500, 500, None]


def test_times_zero_ends_a_fault() -> None:
    faults = Faults()
    faults.order(Fault(path="/v1/calls", status=503, times=9))
    faults.order(Fault(path="/v1/calls", times=0))
    assert faults.in_force() == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is not JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"[]", "the body is not a JSON object"),
        (b'{"n": 1e999}', "the body is not JSON: Out of range float values are not JSON compliant"),
        (
            b'{"call_id": "a", "customer_id": "c1"}',
            'field "to" is missing. It is: Number to call, in E.164 form.',
        ),
    ],
)
def test_a_body_that_is_no_call_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(BodyRefused) as refusal:
        call_arrival(body, key="a", path="/v1/calls", at_ms=0)
    assert str(refusal.value) == message


def test_a_body_nested_beyond_reading_is_refused() -> None:
    with pytest.raises(BodyRefused, match="the body is not JSON"):
        hook_arrival(b'{"a":' * 100_000, key="a", path="/hooks/x", at_ms=0)


def test_the_facts_of_a_webhook_are_what_its_fields_do_not_hold() -> None:
    body = b'{"id": "a", "kind": "sms", "decided_at": 400, "journey": "purchase", "params": {"to": "x"}}'
    taken = hook_arrival(body, key="a", path="/hooks/x", at_ms=1_000)
    assert (taken.kind, taken.latency_ms, taken.facts, taken.params) == (
        "sms",
        600,
        {"journey": "purchase"},
        {"to": "x"},
    )
