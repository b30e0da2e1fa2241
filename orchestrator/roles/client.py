"""The command line as a client of a running gateway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from orchestrator.errors import ConfigurationError, EventRefused, LogUnavailable
from orchestrator.rulebook.load import Loaded

#: Items that are asked for at once.
PAGE_MAX = 1_000
TIMEOUT_S = 30.0

#: What the pages of a customer's past are lists of.
_PAGES = {"timeline": "entries", "explain": "explanations"}


class Busy(LogUnavailable):
    """The gateway takes no events now; it asks for a pause of ``wait_s``, or does not say how long."""

    def __init__(self, text: str, wait_s: float | None) -> None:
        super().__init__(text)
        self.wait_s = wait_s


def client_of(url: str, write_key: str) -> httpx.Client:
    """Return a client of the gateway; it connects at its first request."""
    return httpx.Client(base_url=url, timeout=TIMEOUT_S, auth=(write_key, "") if write_key else None)


def nobody_answers(client: httpx.Client, error: httpx.TransportError) -> ConfigurationError:
    """Return the error of a gateway that does not answer."""
    return ConfigurationError(
        f"No gateway answers at {client.base_url} ({error}). Start one with `make run`, or name it with --url."
    )


def _answer(client: httpx.Client, method: str, path: str, **options: Any) -> Any:
    """Return the JSON of an answer, as ``_response`` gives it."""
    return _response(client, method, path, **options).json()


def _response(client: httpx.Client, method: str, path: str, **options: Any) -> httpx.Response:
    """Return an answer; every failure becomes an error that names the remedy."""
    try:
        response = client.request(method, path, **options)
    except httpx.TransportError as error:
        raise nobody_answers(client, error) from error
    if response.is_success:
        return response
    problem = _problem(response)
    text = "\n".join(map(_fault, problem.get("errors") or [problem]))
    if response.status_code in {429, 503}:
        raise LogUnavailable(text)
    if response.status_code in {401, 403}:
        raise ConfigurationError(f"{text} Give a key with --key or JOURNEY_KEY.")
    raise EventRefused("refused", "", text, "Mend what is named and send again: nothing of this batch was taken.")


def _fault(fault: Mapping[str, Any]) -> str:
    detail, remedy = str(fault.get("detail", "")), str(fault.get("remedy", ""))
    said = f"{detail}{'' if detail.endswith('.') else '.'} {remedy}" if remedy else detail
    return ": ".join(one for one in (fault.get("field", ""), said) if one)


@dataclass(frozen=True, slots=True)
class Fault:
    """An event of a request that the gateway refuses; ``index`` counts from 0, None when it says only that one is."""

    index: int | None
    refused: EventRefused


def post_events(client: httpx.Client, events: Sequence[bytes]) -> list[Fault]:
    """Post events and return what is refused of them; when anything is, nothing was taken.

    Raises ``Busy`` when the gateway asks for patience, ``ConfigurationError`` when it lets nobody in, and
    ``httpx.TransportError`` when it does not answer.
    """
    body = b"[" + b",".join(events) + b"]"
    response = client.post("/v1/events", content=body, headers={"content-type": "application/json"})
    if response.is_success:
        return []
    problem = _problem(response)
    if response.status_code in {400, 413, 422}:
        return [_refusal(one) for one in problem.get("errors") or [problem]]
    text = _fault(problem)
    if response.status_code in {401, 403}:
        raise ConfigurationError(f"{text} Give a key with --key or JOURNEY_KEY.")
    if response.status_code == 429 or response.status_code >= 500:
        asked = response.headers.get("retry-after", "")
        raise Busy(f"{response.status_code}: {text}", float(asked) if asked.isdigit() else None)
    raise ConfigurationError(f"{client.base_url} answers {response.status_code}: {text} Name a gateway with --url.")


def _problem(response: httpx.Response) -> dict[str, Any]:
    """Return the problem document of an answer; what is none becomes the text of it."""
    try:
        found = response.json() if "json" in response.headers.get("content-type", "") else None
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"detail": response.text[:200]}


def _refusal(fault: Mapping[str, Any]) -> Fault:
    code = str(fault.get("code") or str(fault.get("type", "")).rpartition(":")[2])
    words = (str(fault.get(name, "")) for name in ("field", "detail", "remedy"))
    return Fault(fault.get("index"), EventRefused(code, *words))


def dead_letters(url: str, write_key: str, limit: int) -> list[dict[str, Any]]:
    """Return the latest dead letters."""
    with client_of(url, write_key) as client:
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
    with client_of(url, write_key) as client:
        body = {"ids": list(ids)} if ids else {}
        return int(_answer(client, "POST", "/v1/dead-letters/redrive", json=body)["redriven"])


def customer(customer_id: str, what: str, url: str, write_key: str, **asked: Any) -> dict[str, Any]:
    """Return ``timeline``, ``explain`` or ``export`` of a customer; parameters that are None are left out.

    What comes in pages is put together, up to the ``limit`` where one is asked for.
    """
    params = {name: value for name, value in asked.items() if value is not None}
    pages, limit = _PAGES.get(what, ""), asked.get("limit")
    with client_of(url, write_key) as client:
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
    with client_of(url, write_key) as client:
        found: dict[str, Any] = _answer(client, "GET", _customer_path(customer_id))
    return found


def forget(customer_id: str, url: str, write_key: str) -> dict[str, Any]:
    """Erase a customer and return what the gateway has accepted."""
    with client_of(url, write_key) as client:
        found: dict[str, Any] = _answer(client, "DELETE", _customer_path(customer_id))
    return found


def versions(url: str, write_key: str) -> list[dict[str, Any]]:
    """Return the published versions, the one in force first."""
    with client_of(url, write_key) as client:
        return _listed(client, "/v1/rulebooks")


def publish(loaded: Loaded, url: str, write_key: str, **words: Any) -> dict[str, Any]:
    """Publish a checked rulebook and return its version; ``words`` are author, note and activate."""
    with client_of(url, write_key) as client:
        body = {"files": _texts(loaded), **words}
        found: dict[str, Any] = _answer(client, "POST", "/v1/rulebooks", json=body)
    return found


def activate(version: str, url: str, write_key: str, author: str) -> dict[str, Any]:
    """Put a published version into force and return it."""
    with client_of(url, write_key) as client:
        path = f"/v1/rulebooks/{quote(version, safe='')}/activate"
        found: dict[str, Any] = _answer(client, "POST", path, json={"author": author})
    return found


def plan(loaded: Loaded, url: str, write_key: str) -> dict[str, Any]:
    """Return what publishing a checked rulebook would change."""
    with client_of(url, write_key) as client:
        found: dict[str, Any] = _answer(client, "POST", "/v1/rulebooks/plan", json={"files": _texts(loaded)})
    return found


def version_files(version: str, url: str, write_key: str) -> dict[str, bytes]:
    """Return the files of a published version."""
    with client_of(url, write_key) as client:
        found = _answer(client, "GET", f"/v1/rulebooks/{quote(version, safe='')}")
    return {path: text.encode() for path, text in found["files"].items()}


def _texts(loaded: Loaded) -> dict[str, str]:
    return {path: content.decode() for path, content in loaded.files.items()}
