"""SECURITY.md says who may do what as the gateway's own table does."""

from __future__ import annotations

import re
from pathlib import Path

from orchestrator.gateway.roles import TABLE, Role, with_implied, with_roles

SECURITY = Path(__file__).resolve().parents[2] / "SECURITY.md"
WRITE = ".venv/bin/python -m orchestrator.gateway.roles SECURITY.md"


def test_the_table_of_roles_is_that_of_the_gateway() -> None:
    document = SECURITY.read_text(encoding="utf-8")
    assert document == with_roles(document), f"The roles or routes have changed. Write the table again: {WRITE}"


def test_the_table_names_every_route_under_the_role_that_opens_it() -> None:
    lines = SECURITY.read_text(encoding="utf-8").partition("<!-- roles")[2].partition("<!-- /roles")[0].splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines[3:]]
    assert [name.strip("`") for name, *_ in rows] == [*(role.value for role in Role), "no key"]
    for name, may, also, routes in rows:
        role = None if name == "no key" else Role(name.strip("`"))
        assert may[0].islower()
        implied = frozenset() if role is None else with_implied([role]) - {role}
        assert set(re.findall(r"`(\w+)`", also)) == {one.value for one in implied}
        opened = {row.path.replace(":path}", "}") for row in TABLE if row.role is role}
        assert set(re.findall(r"`(/v1/[^`]+)`", routes)) == opened


def test_a_table_that_was_changed_by_hand_is_written_anew() -> None:
    document = SECURITY.read_text(encoding="utf-8")
    row = next(line for line in document.splitlines() if line.startswith("| `write`"))
    assert with_roles(document.replace(row, row.replace("`/v1/track`", "`/v1/trick`"))) == document
