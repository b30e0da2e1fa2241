"""Trait templates: the text of a ``set_trait``, rendered and brought to the type that the tracking plan declares."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from orchestrator.core.compare import is_number
from orchestrator.core.definition import MissingTemplateValue
from orchestrator.rulebook.models.part import shown
from orchestrator.rulebook.template import LiquidTemplate
from orchestrator.rulebook.tracking_plan import CLASSES, Property
from orchestrator.rulebook.value_fault import TYPE_WORDS

_INTEGER = re.compile(r"[+-]?\d{1,18}")
_NUMBER = re.compile(r"[+-]?\d{1,18}(?:\.\d{1,18})?")
_TRUTH = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class TraitTemplate:
    """Implements ``orchestrator.core.definition.Template`` with the trait as its one param."""

    trait: str
    declared: Property
    text: LiquidTemplate

    @property
    def name(self) -> str:
        """What records call it."""
        return f"set_trait {self.trait}"

    def render(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Return the trait's value under its name.

        Raise ``MissingTemplateValue`` naming what is not there, or the value that a trait of this type cannot have.
        """
        value = typed(self.text.render(facts)[self.trait], self.declared.type)
        if value is None or (self.declared.enum and value not in self.declared.enum):
            wanted = ", ".join(str(one) for one in self.declared.enum) or TYPE_WORDS.get(
                self.declared.type, f"an {self.declared.type}"
            )
            raise MissingTemplateValue(f"a value for the trait {self.trait}: {wanted}")
        return {self.trait: value}


def typed(value: Any, declared: str) -> Any:
    """Return a value as one of the declared type where it says the same, or None."""
    if value.__class__ in CLASSES.get(declared, ()):
        return value
    match declared:
        case "string" if is_number(value) or isinstance(value, bool):
            return shown(value)
        case "integer" if isinstance(value, float) and value.is_integer():
            return int(value)
        case "integer" if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
            return int(value)
        case "number" if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
            return float(value) if "." in value else int(value)
        case "boolean" if isinstance(value, str):
            return _TRUTH.get(value.strip().lower())
        case _:
            return None
