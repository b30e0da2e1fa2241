"""Previews for the terminal: the values that its options bring, and what a preview looks like there or in a browser."""

from __future__ import annotations

import html as html_text
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.core.moment import parse_moment
from orchestrator.errors import ConfigurationError
from orchestrator.roles.client import known_customer
from orchestrator.rulebook.load import Loaded
from orchestrator.rulebook.whole_file import write_whole
from orchestrator.runtime.preview import Given, Preview

REMEDY = "Give it a default in the template, or bring the value with --customer, --event or --params."
_CUSTOMER = '{"traits": {"first_name": "Asha"}}'
_EVENT = '{"type": "signed_up", "properties": {"plan": "pro"}}'


# ------------------------------------------------------------------------------------------------- what is given


def given_values(loaded: Loaded, *, customer: str | None, event: str | None, params: str | None) -> Given:
    """Return what the options bring, each a file or JSON. Raises ``ConfigurationError`` naming the option."""
    sources = []
    profile = properties = None
    if customer is not None:
        profile = _object(_read(customer, "--customer"), "traits", "--customer", _CUSTOMER)
        sources.append("the profile of --customer")
    if event is not None:
        read = _read(event, "--event")
        properties = _object(read, "properties", "--event", _EVENT)
        refused = loaded.plan.check(str(read["type"]), properties) if "type" in read else None
        if refused is not None:
            raise ConfigurationError(f"--event: {refused}. {refused.remedy}")
        sources.append("the event of --event")
    own = {} if params is None else _read(params, "--params")
    if own:
        sources.append("--params")
    return Given(profile=profile, event=properties, params=own, sources=tuple(sources))


def _read(text: str, option: str) -> dict[str, Any]:
    """Return the JSON object of a file, or of the text itself when it begins like one."""
    try:
        source = text if text.lstrip().startswith("{") else Path(text).read_text(encoding="utf-8")
        value = json.loads(source)
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{option}: neither JSON nor a file that holds it: {error}") from error
    if not isinstance(value, dict):
        raise ConfigurationError(f"{option}: expected a JSON object, got {type(value).__name__}")
    return value


def _object(read: Mapping[str, Any], key: str, option: str, example: str) -> dict[str, Any]:
    value = read.get(key)
    if not isinstance(value, dict):
        raise ConfigurationError(f'{option}: "{key}" must be an object, as in {example}')
    return value


def with_stored(given: Given, customer_id: str, url: str, write_key: str) -> Given:
    """Return what is given with the profile and the runs that a gateway knows."""
    known = known_customer(customer_id, url, write_key)
    runs = {
        one["journey"]: {
            "stage": one["stage"],
            "key": one["key"],
            "started_at": parse_moment(one["started_at"]),
            "entered_at": parse_moment(one["entered_at"]),
        }
        for one in known["runs"]
    }
    sources = (f"the profile of {customer_id} at {url}", *given.sources)
    return replace(given, profile=known["traits"], runs=runs, sources=sources)


# ------------------------------------------------------------------------------------------------- what is shown


def preview_text(preview: Preview, target: Path | None) -> str:
    """Return a preview as people read it; ``target`` is the file that its HTML has been written to."""
    lines = [
        f"{preview.template} by {preview.connector} ({preview.kind}), rule {preview.rule}, step {preview.step}",
        f"  values from {preview.values}",
    ]
    width = max((len(name) for name in preview.params), default=0)
    for name, value in preview.params.items():
        if name in preview.html:
            shown = f"(HTML, {'below' if target is None else f'written to {target}'})"
        else:
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        lines.append(f"  {name.ljust(width)}  " + shown.rstrip().replace("\n", f"\n  {' ' * width}  "))
    if target is None:
        lines += [str(preview.params[name]) for name in preview.html if name in preview.params]
    return "\n".join(lines)


def write_html(target: Path, found: list[Preview]) -> None:
    """Write the HTML of the one preview that has some, as a document of its own."""
    texts = [(one, name) for one in found for name in one.html if name in one.params]
    if len(texts) != 1:
        message = "Nothing here is HTML" if not texts else f"{len(texts)} sends have HTML"
        remedy = "leave --out out" if not texts else "choose one with --rule or --connector"
        raise ConfigurationError(f"--out: {message}: {remedy}.")
    preview, name = texts[0]
    body = str(preview.params[name])
    if "<html" not in body.lower():
        title = html_text.escape(str(preview.params.get("subject", preview.template)))
        head = f'<head><meta charset="utf-8"><title>{title}</title></head>'
        body = f"<!doctype html>\n<html>{head}\n<body>\n{body}\n</body></html>\n"
    try:
        write_whole(target, body.encode())
    except OSError as error:
        raise ConfigurationError(f"Cannot write to {target}: {error}. Name another file.") from error
