"""Trait templates: the text of a ``set_trait``, rendered and brought to the type that the tracking plan declares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.core.compare import is_number
from orchestrator.core.definition import MissingTemplateValue
from orchestrator.rulebook.lossless import lossless
from orchestrator.rulebook.models.part import shown
from orchestrator.rulebook.template import LiquidTemplate
from orchestrator.rulebook.tracking_plan import CLASSES, Property
from orchestrator.rulebook.value_fault import TYPE_WORDS


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
    if declared == "string" and (is_number(value) or isinstance(value, bool)):
        return shown(value)
    return lossless(value, declared)
