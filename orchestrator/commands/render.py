"""The command that previews what a send would say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.commands.terminal import GATEWAY, PROBLEMS, WRONG_USE, Json, Key, Url, err, fail, out, print_json

_CUSTOMER = '{"traits": {"first_name": "Asha"}}'
_EVENT = '{"type": "signed_up", "properties": {"plan": "pro"}}'


def render(  # noqa: PLR0913, PLR0917 - each is an option of the command.
    path: Annotated[Path, typer.Argument(help="Folder of journeys and rules.")] = Path("rules"),
    template: Annotated[str | None, typer.Option(help="Every send of this template.")] = None,
    rule: Annotated[str | None, typer.Option(help="Only sends of this rule.")] = None,
    connector: Annotated[str | None, typer.Option(help="Only sends by this connector.")] = None,
    customer: Annotated[str | None, typer.Option(help=f"A file or JSON: {_CUSTOMER}. Consents do not matter.")] = None,
    customer_id: Annotated[str | None, typer.Option(help="A customer whom the gateway at --url knows.")] = None,
    event: Annotated[str | None, typer.Option(help=f"A file or JSON: {_EVENT}")] = None,
    params: Annotated[str | None, typer.Option(help="A file or JSON, in place of the params of the send.")] = None,
    target: Annotated[Path | None, typer.Option("--out", help="Write the HTML here, for a browser.")] = None,
    url: Url = GATEWAY,
    write_key: Key = "",
    json: Json = False,
) -> None:
    """Show what a send would say. The values are those of the cases beside the rules, or the ones that are given."""
    from orchestrator.roles import preview as shown  # noqa: PLC0415 - commands load what they need.
    from orchestrator.rulebook.folder import existing_folder  # noqa: PLC0415
    from orchestrator.rulebook.load import load_rulebook  # noqa: PLC0415
    from orchestrator.runtime.preview import Wanted, previews  # noqa: PLC0415

    if template is None and rule is None:
        fail("Name what to show: --template NAME or --rule ID.", WRONG_USE)
    if customer is not None and customer_id is not None:
        fail("--customer and --customer-id both say who it is for: give one of them.", WRONG_USE)
    existing_folder(path)
    loaded = load_rulebook(path)
    if not loaded.ok:
        fail("\n".join(map(str, loaded.problems)), PROBLEMS)
    given = shown.given_values(loaded, customer=customer, event=event, params=params)
    if customer_id is not None:
        given = shown.with_stored(given, customer_id, url, write_key)
    found = previews(loaded, Wanted(template=template, rule=rule, connector=connector), given)
    if target is not None:
        shown.write_html(target, found)
    faults = [fault for one in found for fault in one.faults]
    if json:
        print_json({"ok": not faults, "previews": found})
    else:
        for one in found:
            out.print(shown.preview_text(one, target), markup=False, highlight=False, soft_wrap=True, emoji=False)
        for fault in dict.fromkeys(faults):
            err.print(f"{fault}. {shown.REMEDY}", style="red", markup=False, highlight=False, soft_wrap=True)
    raise SystemExit(PROBLEMS if faults else 0)
