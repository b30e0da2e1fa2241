"""Hostile text in any field of a rule file is refused or stays data: it never reaches generated source."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest
import yaml

from orchestrator.rulebook import compile as compiler
from orchestrator.rulebook.load import folder_files, load_rulebook_files
from orchestrator.runtime.rulebooks import compile_loaded

RULES = Path(__file__).resolve().parents[3] / "rules"
FILES = folder_files(RULES)
HOSTILE = '"); __import__("os").abort()  # {{ x }} \\ \'\n'
PACKS = ("ecommerce/cart_recovery.yaml", "real_estate/lead_callback.yaml", "support/care.yaml")


def variants(text: str) -> Iterator[str]:
    """Yield the file once per scalar in it, keys included, with hostile text in that scalar's place."""
    waiting = [yaml.compose(text, Loader=yaml.SafeLoader)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.ScalarNode):
            yield text[: node.start_mark.index] + json.dumps(HOSTILE) + text[node.end_mark.index :]
        else:
            inner = node.value if isinstance(node, yaml.SequenceNode) else [one for pair in node.value for one in pair]
            waiting += inner


@pytest.mark.parametrize("pack", PACKS)
def test_hostile_text_in_any_field_never_reaches_generated_source(pack, monkeypatch):
    """Every field of a pack in turn; small rulebooks of one journey keep it quick."""
    sources: list[str] = []
    code = compiler._code

    def recorded(text: str) -> CodeType:
        sources.append(text)
        return code(text)

    monkeypatch.setattr(compiler, "_code", recorded)
    folder = pack.partition("/")[0]
    others = {name: body for name, body in FILES.items() if "/" not in name or name.startswith(folder + "/")}
    tried = accepted = 0
    for text in variants(FILES[pack].decode()):
        loaded = load_rulebook_files({**others, pack: text.encode()})
        tried += 1
        if loaded.ok:
            accepted += 1
            compile_loaded(loaded, "default")
    assert tried > 40
    assert accepted, "text that is only data, such as a title, is accepted"
    assert sources
    assert [text for text in sources if "__import__" in text or "abort" in text] == []
