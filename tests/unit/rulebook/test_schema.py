"""JSON Schemas for editors."""

from __future__ import annotations

import json
from pathlib import Path

from orchestrator.rulebook.schema import schemas, write_schemas


def test_schemas_describe_every_key() -> None:
    bare = []
    for name, text in schemas().items():
        for part, definition in json.loads(text)["$defs"].items():
            bare += [
                f"{name} {part}.{key}"
                for key, one in definition.get("properties", {}).items()
                if not one.get("description")
            ]
    assert bare == []


def test_schemas_speak_of_authors_keys_and_not_of_pythons() -> None:
    text = "".join(schemas().values())
    assert '"for"' in text
    assert '"for_"' not in text
    assert "<union>" not in text
    assert "orchestrator__" not in text


def test_writing_again_changes_nothing(tmp_path: Path) -> None:
    assert len(write_schemas(tmp_path / "schema")) == len(schemas())
    assert write_schemas(tmp_path / "schema") == []


def test_names_of_the_authors_own_are_checked_by_editors_as_well() -> None:
    stages = json.loads(schemas()["journey.schema.json"])["properties"]["stages"]
    assert list(stages["patternProperties"]) == ["^[A-Za-z][A-Za-z0-9_-]{0,63}$"]
    assert stages["additionalProperties"] is False
    events = json.loads(schemas()["tracking_plan.schema.json"])["properties"]["events"]
    assert list(events["patternProperties"]) == ["^[a-z][a-z0-9_]{0,99}$"]
