"""Problems: sorted, cut where there are too many, and with a guess at what was meant where that is not too dear."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import RulebookRefused
from orchestrator.rulebook import problem
from orchestrator.rulebook.load import Loaded, folder_files, load_rulebook_files
from orchestrator.rulebook.problem import (
    COMPARED_MAX,
    PROBLEMS_MAX,
    Problem,
    Report,
    Severity,
    bounded_comparing,
    did_you_mean,
    unknown,
)
from orchestrator.runtime.rulebooks import checked

ARROW = "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}"
BASE = {
    **folder_files(Path(__file__).parent / "broken" / "base"),
    "limits.yaml": b"limits: {}",
    "segments.yaml": b"segments: {}",
    "templates.yaml": b"templates: {welcome: {params: {text: Hi}}}",
}
#: What is said of an unknown event beside what was meant.
DECLARE = " If it is new, declare it in {}tracking_plan.yaml."


def rulebook(*, careless: int, mistaken: int) -> dict[str, bytes]:
    """A journey with warnings, and one of a later name with errors."""
    head = "stages: {{new: {{on: {{event: signed_up}}}}}}\nrules:\n"
    rule = "  - {{id: {0}-{1}, on: {{event: {2}}}, do: [{{send: {{connector: sms, template: welcome}}}}]{3}}}\n"
    consent = ", limits: {consent: [marketing]}"
    warned = "".join(rule.format("careless", number, "signed_up", "") for number in range(careless))
    wrong = "".join(rule.format("mistaken", number, "nope", consent) for number in range(mistaken))
    return {
        **BASE,
        "b.yaml": f"journey: b\n{head.format()}{warned}".encode(),
        "j.yaml": f"journey: j\n{head.format()}{wrong}".encode(),
    }


def load(*, careless: int, mistaken: int) -> Loaded:
    return load_rulebook_files(rulebook(careless=careless, mistaken=mistaken), shown_as="rules")


def test_problems_are_in_the_order_of_their_places_and_each_is_there_once():
    report = Report()
    for file, line, severity in (
        ("b.yaml", 1, Severity.ERROR),
        ("a.yaml", 9, Severity.WARNING),
        ("a.yaml", 9, Severity.ERROR),
        ("b.yaml", 1, Severity.ERROR),
    ):
        report.add(Problem(file, line, (), "wrong", severity))
    assert [f"{one.file}:{one.line} {one.severity.value}" for one in report.sorted()] == [
        "a.yaml:9 error",
        "a.yaml:9 warning",
        "b.yaml:1 error",
    ]


def test_an_error_behind_more_warnings_than_are_shown_is_shown_and_the_rulebook_is_refused():
    loaded = load(careless=PROBLEMS_MAX + 1, mistaken=1)
    assert not loaded.ok
    assert loaded.journeys == ()
    assert len(loaded.problems) == PROBLEMS_MAX + 1
    assert str(loaded.problems[-2]) == (
        f'rules/j.yaml:4  journey "j" {ARROW} rule "mistaken-0"\n'
        '    unknown event type "nope". Known: invited, signed_up, subscribed.' + DECLARE.format("rules/")
    )
    assert str(loaded.problems[-1]) == "rules/b.yaml:503\n    warning: … and 2 more warnings: mend these first"
    with pytest.raises(RulebookRefused, match='unknown event type "nope"'):
        checked(loaded)


@pytest.mark.parametrize(
    ("careless", "mistaken", "last"),
    [
        (0, 0, None),
        (PROBLEMS_MAX - 1, 1, None),
        (PROBLEMS_MAX, 1, "rules/b.yaml:503\n    warning: … and 1 more warning: mend these first"),
        (0, PROBLEMS_MAX + 1, "rules/j.yaml:504\n    … and 1 more error: mend these first"),
        (3, PROBLEMS_MAX + 2, "rules/j.yaml:504\n    … and 2 more errors and 3 more warnings: mend these first"),
    ],
)
def test_what_there_is_no_room_for_is_counted(careless: int, mistaken: int, last: str | None):
    loaded = load(careless=careless, mistaken=mistaken)
    shown = [str(one) for one in loaded.problems]
    assert [one for one in shown if "more" in one] == ([] if last is None else [last])
    assert len(shown) == min(careless + mistaken, PROBLEMS_MAX) + (last is not None)
    assert loaded.ok is (mistaken == 0)


def test_warnings_alone_do_not_keep_a_rulebook_from_being_published_however_many():
    loaded = load(careless=PROBLEMS_MAX + 7, mistaken=0)
    assert loaded.ok
    assert len(loaded.journeys) == 2
    assert str(loaded.problems[-1]) == "rules/b.yaml:504\n    warning: … and 7 more warnings: mend these first"


# --------------------------------------------------------------------------------------------- what was meant


def test_a_loading_compares_so_many_names_and_no_more(monkeypatch: pytest.MonkeyPatch):
    """Each of the slips is still told, in its place; only what may have been meant is left out."""
    compared = 0
    closest = problem.get_close_matches

    def counted(word: str, known: list[str], *, n: int, cutoff: float) -> list[str]:
        nonlocal compared
        compared += len(known)
        return closest(word, known, n=n, cutoff=cutoff)

    monkeypatch.setattr(problem, "get_close_matches", counted)
    types = [f"event_number_{number}" for number in range(400)]
    plan = "events:\n" + "".join(f"  {name}: {{}}\n" for name in types)
    rules = "journey: a\nstages: {new: {on: {event: event_number_0}}}\nrules:\n" + "".join(
        f"  - {{id: r{number}, on: {{event: event_numbr_{number}}}, do: [{{wait: 1d}}]}}\n" for number in range(300)
    )
    files = {"tracking_plan.yaml": plan.encode(), "a.yaml": rules.encode()}
    messages = [one.message for one in load_rulebook_files(files).problems]
    assert compared == COMPARED_MAX
    assert len(messages) == 300
    assert messages[0].endswith(' and 388 more. Did you mean "event_number_0"?' + DECLARE.format(""))
    assert messages[COMPARED_MAX // 400 :] == [
        f'unknown event type "event_numbr_{number}".{DECLARE.format("")}' for number in range(COMPARED_MAX // 400, 300)
    ]
    assert 'Did you mean "event_number_0"?' in load_rulebook_files(files).problems[0].message, "of the next anew"


def test_outside_of_a_loading_nothing_is_counted():
    known = [f"name_{number}" for number in range(COMPARED_MAX)]
    for _ in range(2):
        assert did_you_mean("name_17x", known) == ' Did you mean "name_17"?'
    with bounded_comparing():
        assert unknown("name", "name_17x", known).endswith(' Did you mean "name_17"?')
        assert unknown("name", "name_17x", known) == 'unknown name "name_17x".'
        assert did_you_mean("name_17x", known) == ""
    assert did_you_mean("name_17x", known) == ' Did you mean "name_17"?'


def test_a_word_of_endless_length_is_compared_with_nothing():
    assert did_you_mean("a" * 101, ["a" * 100]) == ""
