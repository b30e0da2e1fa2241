"""The command line as a client of a running gateway."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from orchestrator.errors import ConfigurationError, EventRefused, LogUnavailable
from orchestrator.runtime.eventfile import Line, read_lines

BATCH_MAX = 500
TIMEOUT_S = 30.0

Progress = Callable[[int, int], None]


def _client(url: str, write_key: str) -> httpx.Client:
    return httpx.Client(base_url=url, timeout=TIMEOUT_S, auth=(write_key, "") if write_key else None)


def _answer(client: httpx.Client, method: str, path: str, **options: Any) -> Any:
    """Return the JSON of an answer; every failure becomes an error that names the remedy."""
    try:
        response = client.request(method, path, **options)
    except httpx.TransportError as error:
        raise ConfigurationError(
            f"No gateway answers at {client.base_url} ({error}). Start one with `make run`, or name it with --url."
        ) from error
    if response.is_success:
        return response.json()
    problem: dict[str, Any] = (
        response.json() if "json" in response.headers.get("content-type", "") else {"detail": response.text}
    )
    faults = problem.get("errors") or [problem]
    text = "\n".join(
        f"{one.get('field', '')}: {one.get('detail', '')} {one.get('remedy', '')}".strip() for one in faults
    )
    if response.status_code in {429, 503}:
        raise LogUnavailable(text)
    raise EventRefused("refused", "", text, "Mend what is named and send again: nothing of this batch was taken.")


def send_file(path: Path, url: str, write_key: str, progress: Progress) -> int:
    """Send the events of a file in batches and return how many were accepted.

    Raises ``EventRefused`` with the faults of the first batch that is refused; the batches before it are accepted.
    Events keep their ids, so the file may be sent again.
    """
    lines = list(read_lines(path))
    done = 0
    with _client(url, write_key) as client:
        for batch in _batches(lines):
            body = b"[" + b",".join(line.value for line in batch) + b"]"
            _answer(client, "POST", "/v1/events", content=body, headers={"content-type": "application/json"})
            done += len(batch)
            progress(done, len(lines))
    return done


def _batches(lines: Sequence[Line]) -> Iterator[Sequence[Line]]:
    for start in range(0, len(lines), BATCH_MAX):
        yield lines[start : start + BATCH_MAX]


def dead_letters(url: str, write_key: str, limit: int) -> list[dict[str, Any]]:
    """Return the latest dead letters."""
    with _client(url, write_key) as client:
        found: list[dict[str, Any]] = _answer(client, "GET", "/v1/dead-letters", params={"limit": limit})
    return found


def redrive(url: str, write_key: str, ids: Sequence[str] | None) -> int:
    """Send dead letters again (None: all) and return how many."""
    with _client(url, write_key) as client:
        body = {"ids": list(ids)} if ids else {}
        return int(_answer(client, "POST", "/v1/dead-letters/redrive", json=body)["redriven"])
