"""JSON Schemas for editors, generated from the models: one for each kind of file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from orchestrator.rulebook.models.case import CasesFile
from orchestrator.rulebook.models.companion import (
    ConnectorsFile,
    LimitsFile,
    SegmentsFile,
    TemplatesFile,
    TrackingPlanFile,
)
from orchestrator.rulebook.models.journey import JourneyFile
from orchestrator.rulebook.models.part import TAG_MARK, Part
from orchestrator.rulebook.whole_file import write_whole

SCHEMAS: dict[str, type[Part]] = {
    "cases": CasesFile,
    "connectors": ConnectorsFile,
    "journey": JourneyFile,
    "limits": LimitsFile,
    "segments": SegmentsFile,
    "templates": TemplatesFile,
    "tracking_plan": TrackingPlanFile,
}

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> dict[str, str]:
    """Return the text of every schema by its file name, ``journey.schema.json`` and so on."""
    return {f"{name}.schema.json": _text(model) for name, model in SCHEMAS.items()}


def _text(model: type[Part]) -> str:
    schema = _simplified({"$schema": _DIALECT, **model.model_json_schema()})
    return json.dumps(schema, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def _simplified(node: Any) -> Any:
    """Return the schema without what only pydantic reads: titles it invents, and tags of unions."""
    if isinstance(node, list):
        return [_simplified(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {key: value for key, value in node.items() if not _is_noise(key, value)}
    if "patternProperties" in kept:
        # A mapping whose keys are names: what is no name is refused, not passed over.
        kept["additionalProperties"] = False
    return {key: _simplified(value) for key, value in kept.items()}


def _is_noise(key: str, value: Any) -> bool:
    if key == "default":
        return value is None
    return (key == "title" and isinstance(value, str)) or (key == "discriminator" and TAG_MARK in json.dumps(value))


def write_schemas(folder: Path) -> list[Path]:
    """Write every schema into ``folder`` (made when it is not there); return the files that changed."""
    folder.mkdir(parents=True, exist_ok=True)
    changed = []
    for name, text in schemas().items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_whole(path, text.encode())
            changed.append(path)
    return changed
