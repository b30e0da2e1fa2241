"""Every registered connector keeps every promise, and speaks with its system as it was recorded.

A type that has no example fails the suite, and so does a registry without types: nothing is registered untested.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from connectors import twilio_voice
from connectors.conformance.bench import Example, How, on_bench
from connectors.conformance.conversation import as_text, conversation, difference
from connectors.conformance.promises import (
    PROMISES,
    Promise,
    PromiseBroken,
    it_takes_what_a_customer_types_for_text,
)
from connectors.connector_type import ConnectorType
from connectors.markup import Markup
from connectors.registry import connector_types
from connectors.slack import SlackParams
from tests.contract.connectors.conftest import examples

CONVERSATIONS = Path(__file__).parents[1] / "conversations"
TYPES = {known.type: known for known in connector_types()}
EXAMPLES = examples()


def marks(example: Example) -> list[pytest.MarkDecorator]:
    return [pytest.mark.integration] if example.needs else []


def cases() -> list[Any]:
    return [
        pytest.param(TYPES[name], example, promise, id=f"{name}-{promise.name}", marks=marks(example))
        for name, example in EXAMPLES.items()
        if name in TYPES
        for promise in PROMISES
        if promise.concerns(frozenset(example.cannot))
    ]


def given(example: Example, request: pytest.FixtureRequest) -> dict[str, Any]:
    return {name: request.getfixturevalue(name) for name in example.needs}


def test_there_are_types_and_each_has_an_example() -> None:
    assert TYPES
    assert sorted(EXAMPLES) == sorted(TYPES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_answer_that_cannot_be_given_has_its_reason(name: str) -> None:
    cannot = EXAMPLES[name].cannot
    assert How.OK not in cannot
    assert [how for how, reason in cannot.items() if not reason.endswith(".")] == []


@pytest.mark.parametrize(("known", "example", "promise"), cases())
async def test_it_keeps_its_promise(
    known: ConnectorType, example: Example, promise: Promise, request: pytest.FixtureRequest
) -> None:
    async with on_bench(known, example, **given(example, request)) as case:
        await promise(case)


class RawSlackParams(SlackParams):
    markup: ClassVar[Mapping[str, Markup]] = {}


async def test_a_type_that_does_not_say_that_a_param_is_markup_is_found_out() -> None:
    unescaped = replace(TYPES["slack"], action_params=RawSlackParams)
    async with on_bench(unescaped, EXAMPLES["slack"]) as case:
        with pytest.raises(PromiseBroken, match=r"^'<!channel>' in params\.text is more than text, 0\.body\.text"):
            await it_takes_what_a_customer_types_for_text(case)


async def test_a_connector_that_does_not_escape_what_it_puts_together_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(twilio_voice, "escape", lambda text: text)
    async with on_bench(TYPES["twilio_voice"], EXAMPLES["twilio_voice"]) as case:
        with pytest.raises(PromiseBroken, match=r"^'<!channel>' in params\.say is more than text, 0\.body\.2\.1"):
            await it_takes_what_a_customer_types_for_text(case)


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks(example)) for name, example in EXAMPLES.items()])
async def test_it_speaks_as_recorded(name: str, recording: bool, request: pytest.FixtureRequest) -> None:
    example, path = EXAMPLES[name], CONVERSATIONS / f"{name}.json"
    async with on_bench(TYPES[name], example, **given(example, request)) as case:
        seen = as_text(await conversation(case))
        secrets = [*case.environ.values(), *example.secrets]
    assert [secret for secret in secrets if secret in seen] == []
    if recording:
        path.write_text(seen)
    recorded = path.read_text() if path.exists() else ""
    if found := difference(recorded, seen):
        pytest.fail(f"{name} speaks differently; if that is meant, run pytest --record:\n{found}", pytrace=False)


def test_every_recorded_conversation_belongs_to_a_type() -> None:
    recorded = sorted(path.stem for path in CONVERSATIONS.glob("*.json"))
    assert recorded == sorted(EXAMPLES)
