"""The command ``send``: a file of events into a gateway, with progress, and on where it was when it was interrupted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from orchestrator.commands.interruption import Interrupted
from orchestrator.commands.terminal import (
    GATEWAY,
    PROBLEMS,
    WRONG_USE,
    Json,
    Key,
    Rules,
    Url,
    err,
    fail,
    out,
    print_json,
    settings_with,
)
from orchestrator.errors import ConfigurationError, LogUnavailable

if TYPE_CHECKING:
    from orchestrator.roles.import_journal import Reached
    from orchestrator.roles.sending import Sent
    from orchestrator.rulebook.tracking_plan import TrackingPlan

#: Where there is no terminal, a line so often.
_EVERY_S = 5.0


def send(  # noqa: PLR0913, PLR0917 - the command's options.
    file: Annotated[Path | None, typer.Argument(help="JSONL or CSV of events; - reads standard input.")] = None,
    url: Url = GATEWAY,
    write_key: Key = "",
    rules: Rules = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Send from the beginning, whatever was sent before an interruption.")
    ] = False,
    example: Annotated[
        str, typer.Option(help="Send an example for the shipped rules, dated now: lead, lead-at-night or basket.")
    ] = "",
    json: Json = False,
) -> None:
    """Send the events of a file to a gateway; what is refused is kept beside it, and the rest is sent.

    When it is interrupted, the same command goes on where it was.
    """
    if (file is None) is not bool(example):
        fail("name a file of events, or an --example.", WRONG_USE)
    if file is None:
        _send_example(example, url, write_key)
        return
    _send_file(file, url, write_key, rules, restart=restart, json=json)


def _send_example(name: str, url: str, write_key: str) -> None:
    """Send the events of an example and show them, as anybody could send them."""
    import httpx  # noqa: PLC0415
    import msgspec  # noqa: PLC0415

    from orchestrator.adapters.clock import SystemClock  # noqa: PLC0415
    from orchestrator.roles.client import client_of, nobody_answers, post_events  # noqa: PLC0415
    from orchestrator.roles.example_events import EXAMPLES, example_events  # noqa: PLC0415

    if name not in EXAMPLES:
        fail(f'there is no example "{name}": name one of {", ".join(EXAMPLES)}.', WRONG_USE)
    events = [msgspec.json.encode(event) for event in example_events(name, SystemClock().now_ms())]
    with client_of(url, write_key) as client:
        try:
            faults = post_events(client, events)
        except httpx.TransportError as error:
            raise nobody_answers(client, error) from error
    for event in events:
        out.print(event.decode(), markup=False, highlight=False, soft_wrap=True)
    for fault in faults:
        err.print(f"{fault.refused} {fault.refused.remedy}", style="red", markup=False, highlight=False, soft_wrap=True)
    if faults:
        raise SystemExit(PROBLEMS)
    out.print(f"{len(events)} events accepted by {url}", highlight=False, soft_wrap=True)


def _send_file(file: Path, url: str, write_key: str, rules: Path | None, *, restart: bool, json: bool) -> None:
    from orchestrator.roles import sending  # noqa: PLC0415
    from orchestrator.roles.client import client_of  # noqa: PLC0415
    from orchestrator.runtime.eventfile import EventFile  # noqa: PLC0415

    with EventFile(file) as events, client_of(url, write_key) as client:
        if events.is_table:
            events.plan = _plan_of(rules)
        shown = _Silent() if json else _Bar(file) if err.is_terminal else _Lines(file, url)
        with shown:
            import_ = sending.Sending(events, client, shown, restart=restart)
            try:
                sent = import_.run()
            except sending.FileChanged:
                raise
            except Interrupted as interrupted:
                interrupted.remark = _where(file, import_.reached, resumable=import_.resumable)
                raise
            except (ConfigurationError, LogUnavailable) as fault:
                where = _where(file, import_.reached, resumable=import_.resumable)
                raise type(fault)(f"{fault}\n{where}".rstrip()) from fault
    _tell(sent, import_.refused_rows.path, url, shown.heard if json else None)
    raise SystemExit(PROBLEMS if sent.reached.refused else 0)


def _plan_of(rules: Path | None) -> TrackingPlan | None:
    """Return the tracking plan of the rules that are named, or that are there."""
    from orchestrator.rulebook.load import load_rulebook  # noqa: PLC0415

    folder = settings_with(rules=rules).rules
    if rules is None and not folder.is_dir():
        return None
    loaded = load_rulebook(folder)
    if not loaded.plan.events:
        raise ConfigurationError(
            f"The rules in {folder} declare no events, so that nobody can say what the cells are. Look at "
            f"`journey lint {folder}`, or name other rules with --rules."
        )
    return loaded.plan


def _where(file: Path, reached: Reached, *, resumable: bool) -> str:
    if not reached.rows:
        return ""
    far = f"{reached.accepted} events were accepted, up to line {reached.line} of {file}"
    return f"{far}; the same command goes on there." if resumable else f"{far}; send it again, ids count once."


def _tell(sent: Sent, refused_rows: Path, url: str, notes: list[str] | None) -> None:
    reached = sent.reached
    if notes is not None:
        found: dict[str, Any] = {"accepted": reached.accepted, "refused": reached.refused}
        found["refused_file"] = str(refused_rows) if reached.refused else None
        print_json(found | {"resumed_after_line": sent.resumed_after, "notes": notes})
        return
    out.print(f"{reached.accepted} events accepted by {url}", highlight=False, soft_wrap=True)
    for line, refused in sent.first_refused:
        place = f"line {line}: {refused.field}: " if refused.field else f"line {line}: "
        reason = str(refused) if str(refused).endswith(".") else f"{refused}."
        err.print(f"{place}{reason} {refused.remedy}".rstrip(), markup=False, highlight=False, soft_wrap=True)
    if reached.refused:
        text = f"{reached.refused} rows refused; they are in {refused_rows}, with their lines and the reasons"
        err.print(text, style="red", markup=False, highlight=False, soft_wrap=True)


class _Silent:
    """Machines hear at the end what was said on the way."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def said(self, text: str) -> None:
        self.heard.append(text)

    def moved(self, reached: Reached, bytes_read: int, bytes_total: int | None) -> None:
        """Nobody watches."""


class _Lines(_Silent):
    """Where there is no terminal, a line says what begins, and every few seconds how far it is."""

    def __init__(self, file: Path, url: str, now_s: Callable[[], float] = monotonic) -> None:
        super().__init__()
        self._file = file
        self._now_s = now_s
        self._due_s = now_s() + _EVERY_S
        self.said(f"sending {file} to {url}")

    def said(self, text: str) -> None:
        err.print(text, markup=False, highlight=False, soft_wrap=True)

    def moved(self, reached: Reached, bytes_read: int, bytes_total: int | None) -> None:
        if self._now_s() < self._due_s:
            return
        self._due_s = self._now_s() + _EVERY_S
        share = f", {bytes_read / bytes_total:.0%}" if bytes_total else ""
        self.said(f"{self._file}: line {reached.line}{share}, {reached.accepted} accepted, {reached.refused} refused")


class _Bar(_Silent):
    """On a terminal, a bar that goes once what was said is above it."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._progress = Progress(
            TextColumn("sending"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("line {task.fields[line]}, {task.fields[accepted]} accepted, {task.fields[refused]} refused"),
            console=err,
            transient=True,
        )
        self._task = self._progress.add_task(str(file), total=None, line=0, accepted=0, refused=0)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def said(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def moved(self, reached: Reached, bytes_read: int, bytes_total: int | None) -> None:
        self._progress.update(
            self._task,
            completed=bytes_read,
            total=bytes_total,
            line=reached.line,
            accepted=reached.accepted,
            refused=reached.refused,
        )
