"""The commands for a folder of rules: lint, test, format, schemas, the reference, and backtests."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from orchestrator.commands.terminal import (
    PROBLEMS,
    Data,
    Json,
    Rules,
    err,
    fail,
    out,
    print_json,
    settings_with,
)
from orchestrator.errors import ConfigurationError

Folder = Annotated[Path, typer.Argument(help="Folder of journeys and rules.")]


def lint(path: Folder = Path("rules"), json: Json = False) -> None:
    """Check rules: every problem at once, with file, line, journey and rule."""
    from orchestrator.rulebook.folder import existing_folder  # noqa: PLC0415
    from orchestrator.rulebook.load import load_rulebook  # noqa: PLC0415

    existing_folder(path)
    loaded = load_rulebook(path)
    if json:
        print_json({"ok": loaded.ok, "version": loaded.version, "problems": loaded.problems})
    else:
        for problem in loaded.problems:
            out.print(str(problem), markup=False, highlight=False, soft_wrap=True)
        rules = sum(len(journey.rules) for journey in loaded.journeys)
        verdict = f"{rules} rules in {len(loaded.journeys)} journeys are good" if loaded.ok else "not good"
        out.print(f"{path}: {verdict}; version {loaded.version}", markup=False, highlight=False, soft_wrap=True)
    raise SystemExit(0 if loaded.ok else PROBLEMS)


def test(path: Folder = Path("rules"), json: Json = False) -> None:
    """Run the cases beside the rules on a virtual clock, and say what no case reaches."""
    from orchestrator.rulebook.folder import existing_folder  # noqa: PLC0415
    from orchestrator.runtime.casebook import coverage_of, run_cases  # noqa: PLC0415
    from orchestrator.runtime.rulebooks import FolderRulebooks  # noqa: PLC0415

    existing_folder(path)
    book = FolderRulebooks(path, "default")
    results = list(run_cases(book.current, book.loaded.plan, book.loaded.cases))
    coverage = coverage_of(book.current, results)
    failed = [result for result in results if not result.passed]
    if json:
        cases = [
            {"case": one.case.name, "file": one.case.file, "line": one.case.line, "differences": one.differences}
            for one in results
        ]
        print_json({"ok": bool(results) and not failed, "cases": cases, "coverage": coverage})
    else:
        for result in failed:
            _print_differences(result)
        for name in coverage.unreached:
            out.print(f"no case reaches {name}", style="yellow", markup=False, highlight=False)
        out.print(
            f"{len(results) - len(failed)} of {len(results)} cases pass; they reach {coverage.rules_reached} of "
            f"{coverage.rules} rules and {coverage.branches_reached} of {coverage.branches} branches",
            highlight=False,
        )
    if not results:
        fail(f"{path} has no cases: write some in a file that ends in .cases.yaml.", PROBLEMS)
    raise SystemExit(PROBLEMS if failed else 0)


def _print_differences(result: Any) -> None:
    case = result.case
    title = f"{case.file}:{case.line}  case “{case.name}”"
    out.print(title, style="italic", markup=False, highlight=False, soft_wrap=True)
    table = Table(show_lines=True)
    for column in ("line", "expected", "got"):
        table.add_column(column, overflow="fold")
    for difference in result.differences:
        table.add_row(str(difference.line), difference.expected, difference.got)
    out.print(table, markup=False)


def schema(path: Annotated[Path, typer.Argument(help="Folder to write to.")] = Path("rules/schema")) -> None:
    """Write the JSON Schemas that editors check rule files with."""
    from orchestrator.rulebook.schema import write_schemas  # noqa: PLC0415

    try:
        write_schemas(path)
    except OSError as error:
        raise ConfigurationError(f"Cannot write to {path}: {error}. Name another folder.") from error
    out.print(f"wrote the schemas to {path}", markup=False, highlight=False, soft_wrap=True)


def fmt(
    path: Annotated[Path, typer.Argument(help="Folder of journeys and rules, or one file.")] = Path("rules"),
    check: Annotated[bool, typer.Option("--check", help="Change nothing; list what is not in canonical form.")] = False,
) -> None:
    """Write rule files in their one canonical form; comments stay, and what they mean does not change."""
    from orchestrator.rulebook.fmt import format_files  # noqa: PLC0415
    from orchestrator.rulebook.folder import existing_folder  # noqa: PLC0415
    from orchestrator.rulebook.whole_file import write_whole  # noqa: PLC0415

    if not path.is_file():
        existing_folder(path)
    files = list(format_files(path))
    for file in files:
        if file.fault:
            err.print(file.fault, style="red", markup=False, highlight=False, soft_wrap=True)
        elif file.changed:
            out.print(str(file.path), markup=False, highlight=False, soft_wrap=True)
            if not check:
                write_whole(file.path, file.after)
    changed = sum(file.changed for file in files)
    verdict = "not in canonical form" if check else "written anew"
    out.print(f"{changed} of {len(files)} files {verdict}", highlight=False)
    raise SystemExit(PROBLEMS if any(file.fault for file in files) or (check and changed) else 0)


def reference(
    readme: Annotated[Path, typer.Argument(help="README that holds the markers.")] = Path("rules/README.md"),
) -> None:
    """Write the reference of the rule language into the README of the rules, between its markers."""
    from orchestrator.rulebook.reference import with_reference  # noqa: PLC0415
    from orchestrator.rulebook.whole_file import write_whole  # noqa: PLC0415

    try:
        text = with_reference(readme.read_text(encoding="utf-8"), readme.parent)
        write_whole(readme, text.encode())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"Cannot write the reference to {readme}: {error}.") from error
    out.print(f"wrote the reference to {readme}", markup=False, highlight=False, soft_wrap=True)


def backtest(  # noqa: PLR0913, PLR0917 - each is an option of the command.
    events: Annotated[str, typer.Option(help="A JSONL or CSV file, or 'topic' for the log itself.")],
    rules: Rules = None,
    data: Data = None,
    kafka: Annotated[bool, typer.Option("--kafka", help="With 'topic': read Kafka, not the embedded log.")] = False,
    until: Annotated[
        str | None,
        typer.Option(help="Fire timers up to this moment (RFC 3339), or for this span after the last event: 7d."),
    ] = None,
    cold: Annotated[
        bool,
        typer.Option("--cold", help="Begin to count with the log, as if the rules were published at its beginning."),
    ] = False,
    against: Annotated[
        Path | None, typer.Option(help="Other rules: show whose outcome differs from what these would have done.")
    ] = None,
    json: Json = False,
) -> None:
    """Replay events through the rules on a virtual clock, with every limit, and show what they would have done."""
    from orchestrator.roles import backtest as replays  # noqa: PLC0415
    from orchestrator.roles.backtest_text import armed_line, backtest_tables, comparison_table  # noqa: PLC0415
    from orchestrator.rulebook.folder import existing_folder  # noqa: PLC0415

    settings = settings_with(rules=rules, data=data)
    for folder in (settings.rules, *([] if against is None else [against])):
        existing_folder(folder)
    options = replays.options_of(until, cold=cold)
    found = asyncio.run(replays.run_backtest(settings, events, kafka=kafka, options=options))
    changes = None
    if against is not None:
        changes = asyncio.run(replays.run_comparison(settings, against, events, kafka=kafka, options=options))
    if json:
        print_json(found.as_json() | ({} if changes is None else {"changes": changes}))
    else:
        for table in (*backtest_tables(found), *([] if changes is None else [comparison_table(changes)])):
            out.print(table, markup=False)
        for note in found.notes:
            err.print(note, markup=False, highlight=False, soft_wrap=True)
        if text := armed_line(found.armed()):
            out.print(text, markup=False, highlight=False, soft_wrap=True)
        for line in found.refused:
            text = f"line {line.number} refused: {line.refused} {line.refused.remedy}"
            out.print(text, markup=False, highlight=False, soft_wrap=True)
    raise SystemExit(PROBLEMS if found.refused else 0)
