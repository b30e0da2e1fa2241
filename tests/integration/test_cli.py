"""The ``journey`` command as people and scripts use it: exit codes, words, JSON, and a running gateway behind it."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from typer.testing import CliRunner

from load_tests.processes import JOURNEY, ROOT, RULES, EmbeddedEngine, environment_of, journey, unthrottled_rules, until
from load_tests.traffic import lead
from orchestrator import __version__
from orchestrator.adapters.clock import SystemClock
from orchestrator.cli import app

pytestmark = pytest.mark.integration

#: A loopback port where nothing listens: the discard service is not part of any system we run on.
NOBODY = "http://127.0.0.1:9"
#: A terminal so wide that no table folds its cells.
WIDE = {"COLUMNS": "500"}

now_ms = SystemClock().now_ms


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedEngine]:
    """An engine that runs, for all tests: each has customers of its own."""
    folder = tmp_path_factory.mktemp("engine")
    with EmbeddedEngine(folder, rules=unthrottled_rules(folder / "rules")) as running:
        yield running


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """A copy of one pack of the shipped rules, to be spoilt."""
    folder = tmp_path / "rules"
    shutil.copytree(RULES, folder, ignore=lambda _, names: {name for name in names if name in OTHER_PACKS})
    return folder


OTHER_PACKS = {folder.name for folder in RULES.iterdir() if folder.is_dir()} - {"real_estate"}


# ----------------------------------------------------------------------------------------------- help and use


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_and_each_of_its_options(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    command = COMMANDS[path]
    assert command.help and command.help.splitlines()[0] in shown.output
    assert [one.name for one in command.params if not getattr(one, "help", None)] == []


def test_the_commands_of_the_contract_are_there() -> None:
    promised = {
        *("dev", "worker", "dispatcher", "gateway", "receiver", "lint", "test", "schema", "backtest", "send", "doctor"),
        *("topics create", "dead-letters list", "dead-letters redrive"),
    }
    assert promised <= {" ".join(path) for path in COMMANDS}


def test_the_version_is_told() -> None:
    done = journey("--version")
    assert (done.returncode, done.stdout) == (0, f"journey {__version__}\n")


@dataclass(frozen=True)
class Misuse:
    arguments: tuple[str, ...]
    code: int
    said: str
    environment: tuple[tuple[str, str], ...] = ()


MISUSES = {
    "an unknown command": Misuse(("frobnicate",), 2, "No such command 'frobnicate'."),
    "an unknown option": Misuse(("lint", "--frobnicate"), 2, "No such option: --frobnicate"),
    "no event file": Misuse(
        ("backtest", "--events", "nowhere.jsonl"),
        2,
        "Cannot read nowhere.jsonl: [Errno 2] No such file or directory: 'nowhere.jsonl'",
    ),
    "no embedded log": Misuse(
        ("backtest", "--events", "topic", "--data", "nowhere"),
        2,
        "There is no embedded log at nowhere/journey.sqlite3. Name its folder with --data, or an event file.",
    ),
    "a moment without an offset": Misuse(
        ("backtest", "--events", "README.md", "--until", "yesterday"),
        2,
        '--until "yesterday" is no moment and no span. Write RFC 3339 with an offset, 2026-03-02T10:00:00Z, or how '
        "long after the last event timers still fire: 7d.",
    ),
    "no gateway": Misuse(
        ("dead-letters", "list", "--url", NOBODY),
        2,
        f"No gateway answers at {NOBODY} ([Errno 111] Connection refused). "
        "Start one with `make run`, or name it with --url.",
    ),
    "a folder that cannot be written": Misuse(
        ("schema", "/proc/schemas"),
        2,
        "Cannot write to /proc/schemas: [Errno 2] No such file or directory: '/proc/schemas'. Name another folder.",
    ),
    "a setting that is no number": Misuse(
        ("doctor",),
        2,
        "Settings are wrong.\nJOURNEY_PORT: Input should be a valid integer, unable to parse string as an integer",
        (("JOURNEY_PORT", "eighty"),),
    ),
    "two wrong settings": Misuse(
        ("dev",),
        2,
        "Settings are wrong.\n"
        "JOURNEY_WORKSPACE: String should match pattern '^[a-z0-9][a-z0-9_-]{0,31}$'\n"
        "JOURNEY_GRACE_MS: Input should be greater than or equal to 0",
        (("JOURNEY_WORKSPACE", "A B"), ("JOURNEY_GRACE_MS", "-1")),
    ),
    "an option out of range": Misuse(
        ("dev", "--port", "70000"),
        2,
        "Settings are wrong.\nJOURNEY_PORT: Input should be less than or equal to 65535",
    ),
    "a list that is no JSON": Misuse(
        ("dev",),
        2,
        'Settings are wrong.\nJOURNEY_WRITE_KEYS: Input should be a JSON list, such as ["a"]',
        (("JOURNEY_WRITE_KEYS", "one,two"),),
    ),
    "Kafka that does not answer": Misuse(
        ("topics", "create"),
        1,
        "Kafka at 127.0.0.1:9: KafkaConnectionError: Unable to bootstrap from "
        "[('127.0.0.1', 9, <AddressFamily.AF_INET: 2>)]",
        (("JOURNEY_KAFKA_BOOTSTRAP", "127.0.0.1:9"),),
    ),
    **{
        f"a rules folder that is not there, for {arguments[0]}": Misuse(
            arguments, 2, "nowhere: there is no such folder; name the one with your journeys"
        )
        for arguments in (
            *(("lint", "nowhere"), ("test", "nowhere"), ("plan", "nowhere"), ("publish", "nowhere")),
            *(("fmt", "nowhere"), ("render", "nowhere", "--rule", "r")),
            ("backtest", "--events", "README.md", "--rules", "nowhere"),
            *((role, "--rules", "nowhere") for role in ("dev", "gateway", "worker", "dispatcher")),
        )
    },
    "a rules folder whose name is too long": Misuse(
        ("lint", "x" * 300), 2, f"{'x' * 300}: this cannot be read (File name too long); mend or remove it"
    ),
    "a rules folder in the environment that is not there": Misuse(
        ("dev",),
        2,
        "nowhere: there is no such folder; name the one with your journeys",
        (("JOURNEY_RULES", "nowhere"),),
    ),
}


def test_a_folder_that_was_named_must_be_there_whatever_was_published_before(
    engine: EmbeddedEngine, tmp_path: Path
) -> None:
    """The data folder of an engine that has published: it could run on with what that holds."""
    data = tmp_path / "data"
    shutil.copytree(engine.data, data)
    done = journey("dev", "--rules", "nowhere", "--data", str(data), "--port", "0")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "nowhere: there is no such folder; name the one with your journeys\n"


@pytest.mark.parametrize("misuse", MISUSES.values(), ids=MISUSES)
def test_a_wrong_use_ends_in_one_message_that_names_what_to_mend(misuse: Misuse) -> None:
    done = journey(*misuse.arguments, environment=dict(misuse.environment))
    assert (done.returncode, done.stdout) == (misuse.code, "")
    assert "Traceback" not in done.stderr
    if misuse.said.startswith("No such"):
        assert misuse.said in done.stderr
    else:
        assert done.stderr == f"{misuse.said}\n"


# ------------------------------------------------------------------------------------------------------ rules


def test_lint_counts_good_rules_and_names_their_version() -> None:
    done = journey("lint", str(RULES))
    found = json.loads(journey("lint", str(RULES), "--json").stdout)
    assert (done.returncode, done.stderr) == (0, "")
    good = rf"{re.escape(str(RULES))}: \d+ rules in \d+ journeys are good; version {found['version']}\n"
    assert re.fullmatch(good, done.stdout)
    assert (found["ok"], found["problems"]) == (True, [])


def test_lint_warns_of_what_a_pack_that_stands_alone_does_not_use_and_ends_with_0(rules: Path) -> None:
    done = journey("lint", str(rules))
    found = json.loads(journey("lint", str(rules), "--json").stdout)
    assert (done.returncode, done.stderr, found["ok"]) == (0, "", True)
    assert {one["severity"] for one in found["problems"]} == {"warning"}
    assert 'warning: nothing uses the limit set "in_the_moment": use it, or delete it\n' in done.stdout
    assert done.stdout.endswith(f"{rules}: 3 rules in 1 journeys are good; version {found['version']}\n")


def test_lint_lists_every_problem_with_its_line_and_ends_with_1(rules: Path) -> None:
    spoilt = rules / "real_estate" / "lead_callback.yaml"
    lines = spoilt.read_text().splitlines()
    first, second = line_of(lines, "cooldown: 1h"), line_of(lines, "lead_lost")
    spoilt.write_text("\n".join(lines).replace("cooldown: 1h", "cooldwn: 1h").replace("event: lead_lost", "event: lst"))
    done = journey("lint", str(rules))
    found = json.loads(journey("lint", str(rules), "--json").stdout)
    assert (done.returncode, found["ok"]) == (1, False)
    assert {(one["file"], one["line"]) for one in found["problems"]} >= {(str(spoilt), first), (str(spoilt), second)}
    assert f"{spoilt}:{first}  " in done.stdout
    assert 'unknown key "cooldwn". Allowed: ' in done.stdout
    assert 'Did you mean "cooldown"?' in done.stdout
    assert done.stdout.endswith(f"{rules}: not good; version {found['version']}\n")


def line_of(lines: list[str], text: str) -> int:
    return next(number for number, line in enumerate(lines, start=1) if text in line)


def test_test_runs_the_cases_and_says_what_they_reach(rules: Path) -> None:
    done = journey("test", str(rules))
    found = json.loads(journey("test", str(rules), "--json").stdout)
    number = len(found["cases"])
    assert (done.returncode, found["ok"]) == (0, True)
    assert number >= 10
    assert done.stdout.splitlines()[-1].startswith(f"{number} of {number} cases pass; they reach 3 of 3 rules and ")


def test_test_shows_what_a_failing_case_expected_and_got_and_ends_with_1(rules: Path) -> None:
    cases = rules / "real_estate" / "lead_callback.cases.yaml"
    cases.write_text(cases.read_text().replace("project: Lake View", "project: Palm Grove", 1))
    done = journey("test", str(rules), environment=WIDE)
    found = json.loads(journey("test", str(rules), "--json").stdout)
    failed = [one for one in found["cases"] if one["differences"]]
    assert (done.returncode, found["ok"], len(failed)) == (1, False, 1)
    assert failed[0]["case"] == "a lead in the afternoon is called at once"
    assert "case “a lead in the afternoon is called at once”" in done.stdout
    assert "Palm Grove" in done.stdout and "Lake View" in done.stdout


def test_test_without_cases_is_not_good(rules: Path) -> None:
    for cases in rules.rglob("*.cases.yaml"):
        cases.unlink()
    done = journey("test", str(rules))
    assert done.returncode == 1
    assert done.stderr == f"{rules} has no cases: write some in a file that ends in .cases.yaml.\n"


def test_schema_writes_the_schemas_that_are_shipped(tmp_path: Path) -> None:
    done = journey("schema", str(tmp_path / "schema"))
    assert (done.returncode, done.stdout) == (0, f"wrote the schemas to {tmp_path / 'schema'}\n")
    written = {path.name: path.read_text() for path in (tmp_path / "schema").iterdir()}
    assert written == {path.name: path.read_text() for path in (RULES / "schema").iterdir()}


# ------------------------------------------------------------------------------------------------------ previews

LETTER = """
templates:
  letter:
    kind: email
    params:
      to: "{{ profile.email }}"
      subject: "Hello & {{ profile.name | default: 'welcome' }}"
      html: "<p>Dear {{ profile.name }},</p>\\n<p>{{ event.project }} waits.</p>"
"""
SAID = """
journey: letters
stages:
  new: {on: {event: lead_submitted}}
rules:
  - id: letter
    on: {event: lead_submitted}
    do: [{send: {connector: email, template: letter, consent: [marketing]}}]
"""
WRITTEN = """
cases:
  - case: a lead is written to
    customer: {id: c1, traits: {email: a@example.com, name: "<Asha>"}, consents: {marketing: true}}
    events: [{at: "2026-03-02T10:00:00+05:30", type: lead_submitted, properties: {lead_id: l1, project: Palm & Grove}}]
    expect: {}
"""
PREVIEW = """letter by email (email), rule letter, step 0
  values from the case “a lead is written to” ({rules}/letters.cases.yaml:3)
  to       a@example.com
  subject  Hello & <Asha>
  html     (HTML, {where})
"""
PAGE = "<p>Dear &lt;Asha&gt;,</p>\n<p>Palm &amp; Grove waits.</p>\n"


@pytest.fixture
def letters(rules: Path) -> Path:
    """The rules with one more rule that sends an e-mail in HTML, and a case for it."""
    for name, text in (("templates", LETTER), ("letters", SAID), ("letters.cases", WRITTEN)):
        folder = rules / "letters" if name == "templates" else rules
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.yaml").write_text(text)
    plan = rules / "tracking_plan.yaml"
    plan.write_text(plan.read_text().replace("traits:\n", "traits:\n  name: string\n", 1))
    return rules


def test_render_shows_what_a_send_would_say_with_the_values_of_its_case(letters: Path) -> None:
    done = journey("render", str(letters), "--template", "letter")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == PREVIEW.format(rules=letters, where="below") + PAGE
    found = json.loads(journey("render", str(letters), "--rule", "letter", "--json").stdout)
    assert (found["ok"], found["previews"][0]["params"]["html"]) == (True, PAGE.rstrip())


def test_render_writes_html_that_a_browser_opens(letters: Path, tmp_path: Path) -> None:
    target = tmp_path / "letter.html"
    done = journey("render", str(letters), "--template", "letter", "--out", str(target))
    assert (done.returncode, done.stdout) == (0, PREVIEW.format(rules=letters, where=f"written to {target}"))
    assert target.read_text() == (
        '<!doctype html>\n<html><head><meta charset="utf-8"><title>Hello &amp; &lt;Asha&gt;</title></head>\n'
        f"<body>\n{PAGE}</body></html>\n"
    )


def test_render_takes_values_from_json_and_from_files_and_names_what_is_missing(letters: Path, tmp_path: Path) -> None:
    customer = tmp_path / "customer.json"
    customer.write_text('{"id": "c9", "traits": {"name": "Ben"}, "consents": {"marketing": false}}')
    event = '{"type": "lead_submitted", "properties": {"lead_id": "l2"}}'
    done = journey("render", str(letters), "--template", "letter", "--customer", str(customer), "--event", event)
    assert done.returncode == 1
    assert done.stdout == (
        "letter by email (email), rule letter, step 0\n"
        "  values from the profile of --customer, then the event of --event, then the case “a lead is written to” "
        f"({letters}/letters.cases.yaml:3)\n"
        "  subject  Hello & Ben\n"
    )
    remedy = "Give it a default in the template, or bring the value with --customer, --event or --params."
    assert done.stderr == (
        f"template letter, param to: profile.email is undefined. {remedy}\n"
        f"template letter, param html: event.project is undefined. {remedy}\n"
    )


def test_render_shows_what_a_customer_of_the_gateway_would_be_told(letters: Path, engine: EmbeddedEngine) -> None:
    lead = {**LEAD, "id": "preview-1", "customer_id": "preview", "occurred_at": "2026-03-02T15:00:00+05:30"}
    told = {
        **KNOWN,
        "id": "preview-0",
        "customer_id": "preview",
        "properties": {"email": "z@example.com", "name": "Zoe"},
    }
    assert httpx.post(f"{engine.url}/v1/events", json=[told, lead]).is_success
    path = f"{engine.url}/v1/customers/preview"
    until(lambda: "name" in httpx.get(path).json().get("traits", {}), within_s=20, because="the customer is known")
    done = journey("render", str(letters), "--template", "letter", "--customer-id", "preview", "--url", engine.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].startswith(
        f"  values from the profile of preview at {engine.url}, then the case “"
    )
    assert "<p>Dear Zoe,</p>" in done.stdout
    lost = journey("render", str(letters), "--template", "letter", "--customer-id", "nobody", "--url", engine.url)
    assert (lost.returncode, lost.stderr) == (1, 'There is no customer "nobody". Compare the id with its source.\n')


RENDER_MISUSES = {
    "nothing named": ((), "Name what to show: --template NAME or --rule ID."),
    "a template that is not there": (
        ("--rule", "letter", "--template", "leter"),
        'No rule sends that: unknown template "leter". Known: letter. Did you mean "letter"?',
    ),
    "two customers": (
        ("--rule", "letter", "--customer", "{}", "--customer-id", "c1"),
        "--customer and --customer-id both say who it is for: give one of them.",
    ),
    "a customer without traits": (
        ("--rule", "letter", "--customer", '{"name": "Ben"}'),
        '--customer: "traits" must be an object, as in {"traits": {"first_name": "Asha"}}',
    ),
    "no JSON": (
        ("--rule", "letter", "--params", "{code: 1}"),
        "--params: neither JSON nor a file that holds it: Expecting property name enclosed in double quotes: "
        "line 1 column 2 (char 1)",
    ),
    "an event that breaks the plan": (
        ("--rule", "letter", "--event", '{"type": "lead_submited", "properties": {}}'),
        '--event: the event type "lead_submited" is not in the tracking plan. Declare it in tracking_plan.yaml, or '
        'send a declared type. Did you mean "lead_submitted"?',
    ),
    "no HTML": (("--rule", "lead-callback", "--out", "x.html"), "--out: Nothing here is HTML: leave --out out."),
}


@pytest.mark.parametrize("options, said", RENDER_MISUSES.values(), ids=RENDER_MISUSES)
def test_render_names_what_is_wrong_with_how_it_is_used(letters: Path, options: tuple[str, ...], said: str) -> None:
    done = journey("render", str(letters), *options)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{said}\n")


# --------------------------------------------------------------------------------------------------- backtests

LEAD = {
    "id": "e1",
    "type": "lead_submitted",
    "customer_id": "asha",
    "occurred_at": "2026-03-02T15:00:00+05:30",
    "properties": {"lead_id": "l1", "phone": "+919812345678", "timezone": "Asia/Kolkata"},
    "context": {"consent": {"categoryPreferences": {"callback": True}}},
}
KNOWN = {
    "id": "e0",
    "type": "identify",
    "customer_id": "asha",
    "occurred_at": "2026-03-02T14:00:00+05:30",
    "properties": {"phone": "+919812345678", "timezone": "Asia/Kolkata"},
}
VISIT = {
    "id": "e2",
    "type": "site_visit_booked",
    "customer_id": "asha",
    "occurred_at": "2026-03-02T16:00:00+05:30",
    "properties": {"lead_id": "l1", "starts_at": "2026-03-04T11:00:00+05:30"},
    "context": {"consent": {"categoryPreferences": {"sms": True}}},
}


def jsonl(path: Path, *events: Mapping[str, Any]) -> Path:
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return path


def test_backtest_shows_what_a_file_of_events_would_have_brought_about(tmp_path: Path, rules: Path) -> None:
    """The visit is booked an hour after the call was made: it takes nothing back, and its reminder is still to come."""
    events = ["--events", str(jsonl(tmp_path / "events.jsonl", KNOWN, LEAD, LEAD, VISIT)), "--rules", str(rules)]
    done = journey("backtest", *events)
    found = json.loads(journey("backtest", *events, "--json").stdout)
    assert done.returncode == 0
    assert "4 events of 1 customers, 1 duplicates" in done.stdout
    assert "1 timer is still armed, the last until 2026-03-04T03:30:00.000Z. --until" in done.stdout
    assert [found["timers_armed"], found["last_timer_due_at"]] == [1, "2026-03-04T03:30:00.000Z"]
    assert decided(found) == [("lead-callback", "voice")]
    call = {"rule": "lead-callback", "arm": "", "connector": "voice", "hour": "2026-03-02T09:00Z"}
    assert found["volume"] == [{**call, "measure": "sent", "number": 1}]
    assert found["deliveries"] == [{"id": found["actions"][0]["id"], "fate": "sent"}]

    for horizon in ("2026-03-04T12:00:00+05:30", "2d"):
        later = json.loads(journey("backtest", *events, "--until", horizon, "--json").stdout)
        assert decided(later) == [("lead-callback", "voice"), ("visit-reminder", "sms")]


def test_backtest_believes_the_receipts_in_a_file(tmp_path: Path, rules: Path) -> None:
    path, options = tmp_path / "events.jsonl", ["--rules", str(rules), "--json"]
    before = json.loads(journey("backtest", "--events", str(jsonl(path, KNOWN, LEAD)), *options).stdout)
    failed = {
        "id": "r1",
        "type": "action_failed",
        "customer_id": "asha",
        "occurred_at": "2026-03-02T15:05:00+05:30",
        "properties": {"action_id": before["actions"][0]["id"]},
    }
    found = json.loads(journey("backtest", "--events", str(jsonl(path, KNOWN, LEAD, failed)), *options).stdout)
    assert [one["fate"] for one in found["deliveries"]] == ["failed"]


def decided(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(one["rule"], one["connector"]) for one in found["actions"] if not one.get("cancel")]


def test_backtest_names_the_lines_that_are_no_events_and_ends_with_1(tmp_path: Path, rules: Path) -> None:
    broken = {**LEAD, "occurred_at": "yesterday [/b]"}
    events = ["--events", str(jsonl(tmp_path / "events.jsonl", LEAD, broken)), "--rules", str(rules)]
    done = journey("backtest", *events)
    found = json.loads(journey("backtest", *events, "--json").stdout)
    assert (done.returncode, len(found["actions"])) == (1, 1)
    assert [(one["line"], one["code"]) for one in found["refused"]] == [(2, "invalid_value")]
    assert done.stdout.splitlines()[-1].startswith("line 2 refused: ")


# ------------------------------------------------------------------------------------------- a running gateway


def test_send_takes_a_file_of_json_lines_to_a_gateway_and_shows_how_far_it_is(
    engine: EmbeddedEngine, tmp_path: Path
) -> None:
    path = jsonl(tmp_path / "events.jsonl", *(lead(f"sent-{number}", now_ms()) for number in range(1_200)))
    done, terminal = on_a_terminal("send", str(path), "--url", engine.url)
    assert (done.returncode, done.stdout) == (0, f"1200 events accepted by {engine.url}\n")
    assert "sending" in terminal
    assert "100%" in terminal
    until(lambda: len(called(engine, "sent-")) == 1_200, within_s=60, because="every lead was called")


def on_a_terminal(*arguments: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """Run the command with standard error on a terminal; return what it did and what the terminal showed."""
    master, slave = pty.openpty()
    environment = environment_of({"TERM": "xterm"})
    process = subprocess.Popen(
        [str(JOURNEY), *arguments], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=slave, text=True
    )
    os.close(slave)
    shown = b""
    try:
        while piece := os.read(master, 65_536):
            shown += piece
    except OSError:
        pass  # The other end of a terminal is closed by its last user.
    finally:
        os.close(master)
        stdout, _ = process.communicate(timeout=60)
    return subprocess.CompletedProcess(arguments, process.returncode, stdout), shown.decode(errors="replace")


def called(engine: EmbeddedEngine, prefix: str) -> set[str]:
    return {one["customer_id"] for one in engine.arrivals() if one["customer_id"].startswith(prefix)}


def test_send_takes_a_csv_whose_columns_are_properties(engine: EmbeddedEngine, tmp_path: Path) -> None:
    path = tmp_path / "leads.csv"
    path.write_text(
        "id,type,customer_id,occurred_at,lead_id,phone,budget,name\n"
        f'csv-1,lead_submitted,from-csv,{now_ms()},l7,+919812345678,4500000.5,"Rao, Meera"\n'
    )
    done = journey("send", str(path), environment={"JOURNEY_URL": engine.url})
    assert (done.returncode, done.stdout) == (0, f"1 events accepted by {engine.url}\n")
    view = until(lambda: customer(engine, "from-csv"), within_s=5, because="the event was applied")
    assert [(one["journey"], one["key"], one["stage"]) for one in view["runs"]] == [("lead", "l7", "enquired")]


def customer(engine: EmbeddedEngine, customer_id: str) -> dict[str, Any] | None:
    answer = httpx.get(f"{engine.url}/v1/customers/{customer_id}")
    return answer.json() if answer.status_code == 200 else None


@pytest.mark.parametrize("customer_id", ["x/timeline", ".."])
def test_a_customer_may_have_any_id(engine: EmbeddedEngine, tmp_path: Path, customer_id: str) -> None:
    path = jsonl(tmp_path / "events.jsonl", lead(customer_id, now_ms()))
    assert journey("send", str(path), "--url", engine.url).returncode == 0

    def ask(command: str, *options: str) -> subprocess.CompletedProcess[str]:
        return journey(command, customer_id, "--url", engine.url, *options)

    until(lambda: called(engine, customer_id), within_s=10, because="the event was applied")
    assert json.loads(ask("timeline", "--json").stdout)["customer_id"] == customer_id
    assert json.loads(ask("explain", "--json").stdout)["customer_id"] == customer_id
    assert json.loads(ask("export").stdout)["customer"]["customer_id"] == customer_id
    assert json.loads(ask("forget", "--yes", "--json").stdout)["customer_id"] == customer_id


def test_send_names_what_is_wrong_with_an_event_and_sends_the_others(engine: EmbeddedEngine, tmp_path: Path) -> None:
    taken, broken = lead("taken", now_ms()), lead("broken", now_ms())
    path = jsonl(tmp_path / "events.jsonl", taken, {**broken, "type": "Lead Submitted"})
    done = journey("send", str(path), "--url", engine.url)
    assert (done.returncode, done.stdout) == (1, f"1 events accepted by {engine.url}\n")
    assert 'line 2: type: type "Lead Submitted" is not in snake_case. Send "lead_submitted".\n' in done.stderr
    until(lambda: called(engine, "taken"), within_s=10, because="the other event was applied")


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (b'{"id": "a2", oops\n', "The event is not JSON: object keys must be strings (byte 13)."),
        (b'{"id": "a\xff"}\n', "The event is not JSON: a string is not UTF-8."),
    ],
)
def test_send_names_the_line_that_cannot_be_read(
    engine: EmbeddedEngine, tmp_path: Path, broken: bytes, why: str
) -> None:
    path = jsonl(tmp_path / "events.jsonl", lead("before", now_ms()))
    path.write_bytes(path.read_bytes() + b"\n" + broken)
    done = journey("send", str(path), "--url", engine.url)
    assert (done.returncode, done.stdout) == (1, f"1 events accepted by {engine.url}\n")
    assert f"line 3: {why} " in done.stderr


def test_dead_letters_are_listed_and_redriven(engine: EmbeddedEngine) -> None:
    none = journey("dead-letters", "list", "--url", engine.url)
    assert (none.returncode, none.stdout) == (0, "no dead letters\n")
    call = {"type": "track", "event": "7 [/b] days", "userId": "asha", "messageId": "m1"}
    answer = httpx.post(f"{engine.url}/v1/batch", json={"batch": [call]})
    assert (answer.status_code, answer.json()["accepted"], answer.json()["success"]) == (200, 0, False)

    shown = journey("dead-letters", "list", "--url", engine.url, environment=WIDE)
    letters = json.loads(journey("dead-letters", "list", "--url", engine.url, "--json").stdout)
    assert shown.returncode == 0
    assert "7 [/b] days" in shown.stdout
    assert [(one["origin"], one["producer"], one["field"], one["code"]) for one in letters] == [
        ("gateway", "(anonymous)", "event", "invalid_value")
    ]
    assert json.loads(letters[0]["value"])["messageId"] == "m1"

    again = journey("dead-letters", "redrive", letters[0]["id"], "--url", engine.url)
    assert (again.returncode, again.stdout) == (0, "0 sent again\n")


# ------------------------------------------------------------------------------------------------------ doctor


def test_doctor_finds_a_running_engine_healthy(engine: EmbeddedEngine, tmp_path: Path) -> None:
    settings = {
        "RECEIVER_URL": engine.receiver_url,
        "JOURNEY_DATA": str(tmp_path / "[/b]"),
        "JOURNEY_RULES": str(engine.rules),
    }
    done = journey("doctor", environment=settings)
    found = json.loads(journey("doctor", "--json", environment=settings).stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"good  data folder: {tmp_path / '[/b]'} can be written\n" in done.stdout
    assert "good  connector voice: answers\n" in done.stdout
    assert found["ok"] is True
    assert {one["what"] for one in found["findings"]} >= {"Python", "data folder", "rules", "connector voice"}


def test_doctor_says_the_remedy_for_each_thing_that_is_missing(tmp_path: Path) -> None:
    settings = {
        "RECEIVER_URL": NOBODY,
        "JOURNEY_KAFKA_BOOTSTRAP": "127.0.0.1:9",
        "JOURNEY_REDIS_URL": "redis://127.0.0.1:9/0",
    }
    done = journey("doctor", "--distributed", "--json", environment=settings)
    found = json.loads(done.stdout)
    remedies = {one["what"]: one["remedy"] for one in found["findings"]}
    assert (done.returncode, found["ok"]) == (1, False)
    assert remedies["Kafka"] == "Start Kafka, or name it with JOURNEY_KAFKA_BOOTSTRAP."
    assert remedies["Redis"] == "Start Redis, or name it with JOURNEY_REDIS_URL."
    assert "Check the URL" in remedies["connector voice"]

    settings["JOURNEY_REDIS_URL"] = "nonsense"
    found = json.loads(journey("doctor", "--distributed", "--json", environment=settings).stdout)
    redis = next(one for one in found["findings"] if one["what"] == "Redis")
    assert redis["found"].startswith("JOURNEY_REDIS_URL is no address of a Redis: ")

    settings["JOURNEY_RULES"] = str(tmp_path)
    done = journey("doctor", environment=settings)
    assert done.returncode == 1
    assert f"bad   rules: {tmp_path} has problems\n      Run: journey lint {tmp_path}\n" in done.stdout
