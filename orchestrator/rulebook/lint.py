"""Lint: checks across keys and files, after names have been resolved. Everything is reported, nothing raised.

An *error* is a rule that cannot work as written; a *warning* is one that works but is hardly meant.

=================== ==========================================================================================
``lint_plan``       events, properties, traits and values against the tracking plan
``lint_logic``      conditions that can never be true
``lint_journeys``   stages that nothing reaches, rules that their own limits or exits silence, ids used twice
``lint_plays``      sends without consent, twice at once, or after the goal has stopped counting
``lint_limits``     quiet hours by day, fallbacks that cannot help
``lint_connectors`` settings and params against what each connector type takes
``lint_recipients`` whom a message goes to and what it says, by its kind
=================== ==========================================================================================
"""

from __future__ import annotations

from orchestrator.rulebook.lint_connectors import lint_connectors
from orchestrator.rulebook.lint_journeys import lint_journeys
from orchestrator.rulebook.lint_limits import lint_limits
from orchestrator.rulebook.lint_logic import lint_logic
from orchestrator.rulebook.lint_plan import lint_plan
from orchestrator.rulebook.lint_plays import lint_plays
from orchestrator.rulebook.lint_recipients import lint_recipients
from orchestrator.rulebook.names import Names
from orchestrator.rulebook.send_templates import SendTemplates


def lint(names: Names, templates: SendTemplates) -> None:
    """Report whatever is wrong or unlikely in the rulebook."""
    lint_plan(names, templates)
    lint_logic(names)
    lint_journeys(names)
    lint_plays(names)
    lint_limits(names)
    lint_connectors(names)
    lint_recipients(names)
