"""Keys as operators make and revoke them, against a running engine."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from load_tests.processes import EmbeddedEngine, journey, until
from orchestrator.adapters.clock import SystemClock

pytestmark = pytest.mark.integration


def make(file: Path, name: str, *options: str) -> str:
    made = journey("keys", "create", "--name", name, "--file", str(file), *options)
    assert made.returncode == 0, made.stderr
    assert made.stderr == f'The key "{name}" is in {file}, as a hash. It is shown this once:\n'
    return made.stdout.strip()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


def test_a_key_is_shown_once_and_kept_as_a_hash_that_only_its_owner_reads(file: Path) -> None:
    pages = ("--origin", "https://shop.example", "--origin", "http://localhost:3000")
    key = make(file, "shop", "--role", "write", "--events-per-s", "5", "--expires-at", "2099-01-01T00:00:00Z", *pages)
    assert key not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    listed = json.loads(journey("keys", "list", "--file", str(file), "--json").stdout)
    assert listed == [
        {
            "name": "shop",
            "roles": ["write"],
            "workspace": None,
            "rate": {"events_per_s": 5.0, "burst": 10.0},
            "expires_at": "2099-01-01T00:00:00Z",
            "origins": ["https://shop.example", "http://localhost:3000"],
        }
    ]
    again = journey("keys", "create", "--role", "write", "--name", "shop", "--file", str(file))
    assert (again.returncode, 'has a key "shop" already' in again.stderr) == (1, True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--role", "boss"), "--role: Input should be 'write', 'viewer', 'author', 'publisher' or 'operator'"),
        (("--role", "write", "--expires-at", "soon"), '--expires-at: "soon" is no moment; write 2027-01-31T00:00:00Z'),
        (
            ("--role", "write", "--origin", "shop.example"),
            '--origin: Value error, "shop.example" is no origin of a page',
        ),
        (("--role", "viewer", "--origin", "https://shop.example"), "--origin: Value error, origins are of pages that"),
        (("--role", "write", "--burst", "5"), "--burst needs --events-per-s: how fast the burst comes back."),
    ],
)
def test_a_key_that_cannot_be_is_refused(file: Path, options: tuple[str, ...], said: str) -> None:
    refused = journey("keys", "create", "--name", "x", "--file", str(file), *options)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert not file.exists()


def test_the_engine_refuses_to_serve_other_machines_without_keys(tmp_path: Path) -> None:
    refused = journey("dev", "--host", "0.0.0.0", "--port", "0", "--data", str(tmp_path / "data"))
    assert refused.returncode == 2
    assert refused.stderr.startswith("Serving on 0.0.0.0 without keys would let in everybody who reaches this machine.")
    assert not (tmp_path / "data").exists()


@pytest.fixture
def engine(file: Path, tmp_path: Path) -> Iterator[tuple[EmbeddedEngine, str]]:
    key = make(file, "all", "--role", "write", "--role", "publisher", "--role", "operator")
    with EmbeddedEngine(tmp_path, environment={"JOURNEY_KEYS_FILE": str(file)}) as running:
        yield running, key


def test_commands_carry_their_key_and_a_revoked_one_stops_opening_without_a_restart(
    engine: tuple[EmbeddedEngine, str], file: Path, tmp_path: Path
) -> None:
    running, key = engine
    event: dict[str, Any] = {"id": "e1", "type": "identify", "customer_id": "c1", "properties": {"first_name": "Asha"}}
    events = tmp_path / "events.jsonl"
    events.write_text(json.dumps({**event, "occurred_at": SystemClock().now_ms()}) + "\n")
    bare = journey("send", str(events), "--url", running.url)
    assert bare.returncode == 2
    assert "A key is needed." in bare.stderr
    assert "Give a key with --key or JOURNEY_KEY." in bare.stderr
    sent = journey("send", str(events), "--url", running.url, environment={"JOURNEY_KEY": key})
    assert (sent.returncode, sent.stdout) == (0, f"1 events accepted by {running.url}\n")
    listed = journey("versions", "--url", running.url, "--key", key)
    assert listed.returncode == 0

    def answer() -> int:
        return httpx.get(f"{running.url}/v1/actions", headers={"authorization": f"Bearer {key}"}).status_code

    assert answer() == 200
    assert journey("keys", "revoke", "all", "--file", str(file)).returncode == 0
    until(lambda: answer() == 401, within_s=10, because="the revoked key is refused")
