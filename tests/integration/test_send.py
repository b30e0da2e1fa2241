"""``journey send`` as a process against a gateway of the test's own: patient, bounded, and on where it was."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from load_tests.processes import JOURNEY, ROOT, environment_of, journey

pytestmark = pytest.mark.integration

#: What a gateway answers to a batch: a status, its headers and a body.
Answer = tuple[int, dict[str, str], Any]
TAKEN: Answer = (202, {}, {"accepted": 0})


class Gateway:
    """Takes events as ``answer`` says, which is given each batch and how many came before; None hangs up."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.answer: Callable[[list[Any], int], Answer | None] = lambda batch, number: TAKEN
        self.requests = 0
        self.url = ""

    @property
    def events(self) -> list[Any]:
        return [event for batch in self.batches for event in batch]

    def take(self, batch: list[Any]) -> Answer | None:
        self.requests += 1
        answer = self.answer(batch, self.requests - 1)
        if answer is not None and answer[0] == 202:
            self.batches.append(batch)
        return answer


@contextmanager
def serving(gateway: Gateway, port: int = 0) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            answer = gateway.take(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            if answer is None:
                self.close_connection = True
                return
            status, headers, body = answer
            content = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"content-type": "application/json", "content-length": len(content), **headers}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *given: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    made = Gateway()
    with serving(made) as port:
        made.url = f"http://127.0.0.1:{port}"
        yield made


def event(number: int) -> dict[str, Any]:
    return {"id": f"e{number}", "type": "signed_up", "customer_id": f"c{number}", "occurred_at": 1_772_425_800_000}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps(event(number)) + "\n" for number in range(2_000)))
    return path


def send(path: Path | str, gateway: Gateway, *options: str) -> subprocess.CompletedProcess[str]:
    return journey("send", str(path), "--url", gateway.url, *options)


def ids(gateway: Gateway) -> list[str]:
    return [one["id"] for one in gateway.events]


# --------------------------------------------------------------------------------------------------- refused rows


def test_what_is_refused_is_kept_beside_the_file_with_its_reason_and_the_rest_is_sent(
    gateway: Gateway, file: Path
) -> None:
    lines = file.read_text().splitlines()
    lines[1_400] = '{"id": oops'
    file.write_text("\n".join(lines) + "\n")

    def answer(batch: list[Any], number: int) -> Answer:
        bad = [index for index, one in enumerate(batch) if one["id"] in {"e7", "e1999"}]
        words = {"code": "unknown_type", "field": "type", "detail": "not declared", "remedy": "Declare it."}
        return (400, {}, {"errors": [{"index": index, **words} for index in bad]}) if bad else TAKEN

    gateway.answer = answer
    done = send(file, gateway)
    assert (done.returncode, done.stdout) == (1, f"1997 events accepted by {gateway.url}\n")
    refused = [json.loads(line) for line in file.with_name("events.jsonl.refused.jsonl").read_text().splitlines()]
    assert [(one["line"], one["code"], one["remedy"]) for one in refused] == [
        (8, "unknown_type", "Declare it."),
        (1_401, "not_json", "Send one JSON object an event, encoded as UTF-8."),
        (2_000, "unknown_type", "Declare it."),
    ]
    assert [one["row"] for one in refused] == [event(7), '{"id": oops', event(1_999)]
    assert "line 8: type: not declared. Declare it.\n" in done.stderr
    assert done.stderr.endswith(f"3 rows refused; they are in {file}.refused.jsonl, with their lines and the reasons\n")
    assert ids(gateway) == [f"e{number}" for number in range(2_000) if number not in {7, 1_400, 1_999}]
    assert sorted(one.name for one in file.parent.iterdir()) == ["events.jsonl", "events.jsonl.refused.jsonl"]


def test_one_bad_row_is_found_when_the_gateway_says_only_that_there_is_one(gateway: Gateway, file: Path) -> None:
    gateway.answer = lambda batch, number: (
        (413, {}, {"type": "urn:journey:problem:too_large", "detail": "Too large."})
        if any(one["id"] == "e42" for one in batch)
        else TAKEN
    )
    done = send(file, gateway, "--json")
    assert done.stderr == ""
    assert json.loads(done.stdout) == {
        "accepted": 1_999,
        "refused": 1,
        "refused_file": f"{file}.refused.jsonl",
        "resumed_after_line": 0,
        "notes": [],
    }


# ----------------------------------------------------------------------------------------------- rows without an id


def test_rows_without_an_id_get_one_of_their_content_so_that_the_file_may_be_sent_twice(
    gateway: Gateway, tmp_path: Path
) -> None:
    path, rows = tmp_path / "rows.csv", ["signed_up,c1,1772425800000,pro"] * 2 + ["signed_up,c2,1772425800000,pro"]
    path.write_text("\n".join(["type,customer_id,occurred_at,plan", *rows]) + "\n")
    assert send(path, gateway).returncode == 0
    first = ids(gateway)
    assert len(set(first)) == 3, "two rows that are alike are two events"
    path.write_text("\n".join(["Type;Customer ID;Occurred At;plan", *(row.replace(",", ";") for row in rows)]) + "\n")
    assert send(path, gateway).returncode == 0
    assert ids(gateway)[3:] == first, "however they are separated and their columns spelt"

    lines = tmp_path / "rows.jsonl"
    lines.write_text('{"type": "a", "customer_id": "c", "occurred_at": 1}\n{"type": "track", "userId": "c"}\n')
    assert send(lines, gateway).returncode == 0
    assert [sorted(one) for one in gateway.events[-2:]] == [
        ["customer_id", "id", "occurred_at", "type"],
        ["messageId", "type", "userId"],
    ]


def test_standard_input_is_read_as_a_file_is(gateway: Gateway) -> None:
    done = subprocess.run(
        [str(JOURNEY), "send", "-", "--url", gateway.url, "--json"],
        cwd=ROOT,
        env=environment_of({}),
        input="id\ttype\tcustomer_id\toccurred_at\nt1\tsigned_up\tc1\t1772425800000\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, json.loads(done.stdout)["notes"]) == (0, ["-: the columns are separated by a tab"])
    assert ids(gateway) == ["t1"]


# -------------------------------------------------------------------------------------------------------- patience


def test_a_gateway_that_asks_for_a_pause_or_goes_away_is_waited_for(gateway: Gateway, file: Path) -> None:
    answers: dict[int, Answer | None] = {
        1: (429, {"retry-after": "0"}, {"detail": "Too many events."}),
        3: (503, {"retry-after": "0"}, {"detail": "The log does not answer."}),
        4: None,
    }
    gateway.answer = lambda batch, number: answers.get(number, TAKEN)
    done = send(file, gateway)
    assert (done.returncode, done.stdout) == (0, f"2000 events accepted by {gateway.url}\n")
    assert "the gateway answers 429: Too many events.; trying again in 0 s\n" in done.stderr
    assert "the gateway answers 503: The log does not answer.; trying again in 0 s\n" in done.stderr
    assert "no gateway answers (" in done.stderr
    assert ids(gateway) == [f"e{number}" for number in range(2_000)]


# ------------------------------------------------------------------------------------------------- interruptions


@contextmanager
def stopped_after(gateway: Gateway, batches: int, file: Path) -> Iterator[subprocess.Popen[str]]:
    """Yield a process that waits for the answer to the batch after so many."""
    reached, go_on = Event(), Event()

    def answer(batch: list[Any], number: int) -> Answer | None:
        if number < batches:
            return TAKEN
        reached.set()
        go_on.wait(60)
        return None

    gateway.answer = answer
    process = subprocess.Popen(
        [str(JOURNEY), "send", str(file), "--url", gateway.url],
        cwd=ROOT,
        env=environment_of({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert reached.wait(60)
        yield process
    finally:
        go_on.set()
        process.kill()
        process.communicate()
        gateway.answer = lambda batch, number: TAKEN


def test_ctrl_c_says_where_it_stopped_and_the_same_command_goes_on_there(gateway: Gateway, file: Path) -> None:
    with stopped_after(gateway, 2, file) as process:
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 130
        assert stderr.endswith(
            "Stopped by Ctrl-C before the end. 1000 events were accepted, up to line 1000 of "
            f"{file}; the same command goes on there.\n"
        )
    done = send(file, gateway)
    assert (done.returncode, done.stdout) == (0, f"2000 events accepted by {gateway.url}\n")
    assert f"going on after line 1000 of {file}\n" in done.stderr
    assert ids(gateway) == [f"e{number}" for number in range(2_000)]
    assert [one.name for one in file.parent.iterdir()] == ["events.jsonl"], "nothing is left of an import that is over"


def test_after_kill_9_it_goes_on_with_the_refused_rows_each_once(gateway: Gateway, file: Path) -> None:
    file.write_text("oops\n" + file.read_text())
    with stopped_after(gateway, 1, file) as process:
        process.kill()
        process.wait()
    refused = file.with_name("events.jsonl.refused.jsonl")
    refused.write_text(refused.read_text() + "half a li")
    with file.open("a") as more:
        more.write(json.dumps(event(2_000)) + "\n")
    done = send(file, gateway)
    assert done.stdout == f"2001 events accepted by {gateway.url}\n", "lines may have been added"
    assert [json.loads(one)["line"] for one in refused.read_text().splitlines()] == [1]


@pytest.mark.parametrize(
    "change",
    [lambda text: text.replace("e17", "e-17"), lambda text: text[: text.index("\n") + 1]],
    ids=["edited", "cut"],
)
def test_a_file_that_has_changed_is_noticed_and_sent_from_its_beginning_when_asked(
    gateway: Gateway, file: Path, change: Callable[[str], str]
) -> None:
    with stopped_after(gateway, 2, file) as process:
        process.kill()
        process.wait()
    file.write_text(change(file.read_text()))
    done = send(file, gateway)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(
        f"{file} has changed since its lines up to 1000 were sent. Put it back, or send it from its beginning with "
        "--restart: events that keep their ids count once.\n"
    )
    gateway.batches.clear()
    assert send(file, gateway, "--restart").returncode == 0
    assert len(gateway.events) == len(file.read_text().splitlines())


# ------------------------------------------------------------------------------------------------------- memory


def peak_of(*arguments: str) -> tuple[int, int]:
    """Run the command and return its exit code and how much memory it had at most, in KiB.

    A small process starts it: what is forked from this one would be counted with all that this one holds.
    """
    program = (
        "import os, subprocess, sys; one = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL); "
        "_, status, used = os.wait4(one.pid, 0); print(os.waitstatus_to_exitcode(status), used.ru_maxrss)"
    )
    command = [sys.executable, "-c", program, str(JOURNEY), *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment_of({}), capture_output=True, text=True, check=True)
    status, peak_kib = map(int, done.stdout.split())
    return status, peak_kib


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_long_file_takes_no_more_memory_than_a_short_one(gateway: Gateway, tmp_path: Path, kind: str) -> None:
    peaks = []
    for rows in (30_000, 300_000):
        path = tmp_path / f"{rows}.{kind}"
        with path.open("w") as out:
            if kind == "csv":
                out.write("type,customer_id,occurred_at,plan\n")
            for number in range(rows):
                text = json.dumps(event(number)) if kind == "jsonl" else f"signed_up,c{number},1772425800000,pro"
                out.write(f"{text}\n")
        taken = [0]

        def answer(batch: list[Any], number: int, taken: list[int] = taken) -> Answer:
            taken[0] += len(batch)
            batch.clear()
            return TAKEN

        gateway.answer = answer
        status, peak_kib = peak_of("send", str(path), "--url", gateway.url, "--json")
        assert (status, taken[0]) == (0, rows)
        peaks.append(peak_kib)
    assert peaks[1] < peaks[0] * 1.15, f"{peaks} KiB"
