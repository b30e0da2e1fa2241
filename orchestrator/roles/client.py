"""The command line as a client of a running gateway."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import sleep
from typing import Any
from urllib.parse import quote

import httpx

from orchestrator.errors import ConfigurationError, EventRefused, LogUnavailable
from orchestrator.rulebook.load import Loaded
from orchestrator.runtime.eventfile import Line, read_lines
from orchestrator.runtime.intake import Limits, decode_json

BATCH_MAX = 500
#: Items that are asked for at once.
PAGE_MAX = 1_000
TIMEOUT_S = 30.0

#: What the pages of a customer's past are lists of.
_PAGES = {"timeline": "entries", "explain": "explanations"}

Progress = Callable[[int, int], None]


class _SlowDown(LogUnavailable):
    """The gateway takes no more from this key for ``wait_s``."""

    def __init__(self, text: str, wait_s: float) -> None:
        super().__init__(text)
        self.wait_s = wait_s


def _client(url: str, write_key: str) -> httpx.Client:
    return httpx.Client(base_url=url, timeout=TIMEOUT_S, auth=(write_key, "") if write_key else None)


def _answer(client: httpx.Client, method: str, path: str, places: Sequence[str] = (), **options: Any) -> Any:
    """Return the JSON of an answer, as ``_response`` gives it."""
    return _response(client, method, path, places, **options).json()


def _response(
    client: httpx.Client, method: str, path: str, places: Sequence[str] = (), **options: Any
) -> httpx.Response:
    """Return an answer; every failure becomes an error that names the remedy.

    ``places`` say where each of the events that are sent comes from.
    """
    try:
        response = client.request(method, path, **options)
    except httpx.TransportError as error:
        raise ConfigurationError(
            f"No gateway answers at {client.base_url} ({error}). Start one with `make run`, or name it with --url."
        ) from error
    if response.is_success:
        return response
    problem: dict[str, Any] = (
        response.json() if "json" in response.headers.get("content-type", "") else {"detail": response.text}
    )
    text = "\n".join(_fault(one, places) for one in problem.get("errors") or [problem])
    if response.status_code == 429 and response.headers.get("retry-after", "").isdigit():
        raise _SlowDown(text, float(response.headers["retry-after"]))
    if response.status_code in {429, 503}:
        raise LogUnavailable(text)
    if response.status_code in {401, 403}:
        raise ConfigurationError(f"{text} Give a key with --key or JOURNEY_KEY.")
    raise EventRefused("refused", "", text, "Mend what is named and send again: nothing of this batch was taken.")


def _fault(fault: Mapping[str, Any], places: Sequence[str]) -> str:
    index = fault.get("index", -1)
    place = places[index] if 0 <= index < len(places) else ""
    detail, remedy = str(fault.get("detail", "")), str(fault.get("remedy", ""))
    said = f"{detail}{'' if detail.endswith('.') else '.'} {remedy}" if remedy else detail
    return ": ".join(one for one in (place, fault.get("field", ""), said) if one)


def send_file(path: Path, url: str, write_key: str, progress: Progress) -> int:
    """Send the events of a file in batches and return how many were accepted.

    Raises ``EventRefused`` with the faults of the first batch that is refused; the batches before it are accepted.
    Nothing is sent of a file with a line that is not JSON. Events keep their ids, so the file may be sent again.
    """
    lines = [_readable(line) for line in read_lines(path)]
    done = 0
    with _client(url, write_key) as client:
        for batch in _batches(lines):
            _paced(client, batch)
            done += len(batch)
            progress(done, len(lines))
    return done


def _readable(line: Line) -> Line:
    """Return a line that may stand in a batch: it is JSON by itself."""
    try:
        decode_json(line.value, Limits().depth_max)
    except EventRefused as refused:
        raise EventRefused(
            refused.code, "", f"line {line.number}: {refused} {refused.remedy} Nothing was sent.", refused.remedy
        ) from None
    return line


def _paced(client: httpx.Client, batch: Sequence[Line]) -> None:
    """Post a batch; a key that has sent as much as it may for now is waited for, as the gateway asks."""
    body = b"[" + b",".join(line.value for line in batch) + b"]"
    places = [f"line {line.number}" for line in batch]
    while True:
        try:
            _answer(client, "POST", "/v1/events", places, content=body, headers={"content-type": "application/json"})
            return
        except _SlowDown as slow:
            sleep(slow.wait_s)


def _batches(lines: Sequence[Line]) -> Iterator[Sequence[Line]]:
    for start in range(0, len(lines), BATCH_MAX):
        yield lines[start : start + BATCH_MAX]


def dead_letters(url: str, write_key: str, limit: int) -> list[dict[str, Any]]:
    """Return the latest dead letters."""
    with _client(url, write_key) as client:
        return _listed(client, f"/v1/dead-letters?limit={min(limit, PAGE_MAX)}", limit)


def _listed(client: httpx.Client, path: str, number: int | None = None) -> list[dict[str, Any]]:
    """Return the first items of a list (None: all of them), following it from page to page."""
    found: list[dict[str, Any]] = []
    following: str | None = path
    while following is not None and (number is None or len(found) < number):
        response = _response(client, "GET", following)
        found += response.json()
        following = response.links.get("next", {}).get("url")
    return found[:number]


def redrive(url: str, write_key: str, ids: Sequence[str] | None) -> int:
    """Send dead letters again (None: all) and return how many."""
    with _client(url, write_key) as client:
        body = {"ids": list(ids)} if ids else {}
        return int(_answer(client, "POST", "/v1/dead-letters/redrive", json=body)["redriven"])


def customer(customer_id: str, what: str, url: str, write_key: str, **asked: Any) -> dict[str, Any]:
    """Return ``timeline``, ``explain`` or ``export`` of a customer; parameters that are None are left out.

    What comes in pages is put together, up to the ``limit`` where one is asked for.
    """
    params = {name: value for name, value in asked.items() if value is not None}
    pages, limit = _PAGES.get(what, ""), asked.get("limit")
    with _client(url, write_key) as client:
        response = _response(client, "GET", f"{_customer_path(customer_id)}/{what}", params=params)
        found: dict[str, Any] = response.json()
        while (following := response.links.get("next")) and (limit is None or len(found[pages]) < limit):
            response = _response(client, "GET", following["url"])
            found[pages] += response.json()[pages]
    if limit is not None and pages:
        del found[pages][limit:]
    return found


def _customer_path(customer_id: str) -> str:
    # Dots are encoded too: "." and ".." would be steps of the path, which clients take before they send it.
    return f"/v1/customers/{quote(customer_id, safe='').replace('.', '%2E')}"


def known_customer(customer_id: str, url: str, write_key: str) -> dict[str, Any]:
    """Return what the gateway knows of a customer: traits, consents, runs."""
    with _client(url, write_key) as client:
        found: dict[str, Any] = _answer(client, "GET", _customer_path(customer_id))
    return found


def forget(customer_id: str, url: str, write_key: str) -> dict[str, Any]:
    """Erase a customer and return what the gateway has accepted."""
    with _client(url, write_key) as client:
        found: dict[str, Any] = _answer(client, "DELETE", _customer_path(customer_id))
    return found


def versions(url: str, write_key: str) -> list[dict[str, Any]]:
    """Return the published versions, the one in force first."""
    with _client(url, write_key) as client:
        return _listed(client, "/v1/rulebooks")


def publish(loaded: Loaded, url: str, write_key: str, **words: Any) -> dict[str, Any]:
    """Publish a checked rulebook and return its version; ``words`` are author, note and activate."""
    with _client(url, write_key) as client:
        body = {"files": _texts(loaded), **words}
        found: dict[str, Any] = _answer(client, "POST", "/v1/rulebooks", json=body)
    return found


def activate(version: str, url: str, write_key: str, author: str) -> dict[str, Any]:
    """Put a published version into force and return it."""
    with _client(url, write_key) as client:
        path = f"/v1/rulebooks/{quote(version, safe='')}/activate"
        found: dict[str, Any] = _answer(client, "POST", path, json={"author": author})
    return found


def plan(loaded: Loaded, url: str, write_key: str) -> dict[str, Any]:
    """Return what publishing a checked rulebook would change."""
    with _client(url, write_key) as client:
        found: dict[str, Any] = _answer(client, "POST", "/v1/rulebooks/plan", json={"files": _texts(loaded)})
    return found


def version_files(version: str, url: str, write_key: str) -> dict[str, bytes]:
    """Return the files of a published version."""
    with _client(url, write_key) as client:
        found = _answer(client, "GET", f"/v1/rulebooks/{quote(version, safe='')}")
    return {path: text.encode() for path, text in found["files"].items()}


def _texts(loaded: Loaded) -> dict[str, str]:
    return {path: content.decode() for path, content in loaded.files.items()}
