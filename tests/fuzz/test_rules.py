"""The rule loader, fuzzed with mutated shipped packs: it never raises, and what it accepts works as a whole.

Whatever loads must compile, decide the cases of its pack, and be decided alike by generated code and interpreter.
"""

from __future__ import annotations

import copy
import tracemalloc
from collections.abc import Callable, Iterator
from math import isfinite
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.event import Event
from orchestrator.core.interpret import interpreted
from orchestrator.core.rulebook import build_rulebook
from orchestrator.rulebook.load import Loaded, folder_files, load_rulebook_files
from orchestrator.rulebook.source import Map, SourceFault, plain_value, read_source
from orchestrator.runtime.replay import Replayed, replay
from orchestrator.runtime.rulebooks import compile_loaded

Effort = Callable[[int], settings]
FILES = folder_files(Path(__file__).resolve().parents[2] / "rules")
PACKS = {
    path: {name: text for name, text in FILES.items() if "/" not in name or name.split("/")[0] == path.split("/")[0]}
    for path in FILES
    if "/" in path and not path.endswith(".cases.yaml")
}
SHARED = ("tracking_plan.yaml", "connectors.yaml", "limits.yaml", "segments.yaml")
HOSTILE: list[Any] = [
    *(None, True, False, 0, -1, 10**17, 1e308, -0.0, "", " ", "on", "NO", "21:00", "2026-03-02", "0x1F", "1_000", "~"),
    *("99999999w", "-5m", "event.", "event..x", "profile.a.b.c.d.e.f", "event.total", "../x", "{{", "{{ a | b }}"),
    *("{% for a in (1..1000000000) %}{{ a }}{% endfor %}", "(a|a)*b$", "a\x00b", "\ud800", "\u202e", "x" * 5_000),
    *("anytime", "in_run", "go", "skip", "end"),
    *([], {}, [[]], {"": {}}, {"event": "x"}, {"all": []}, [None], {"a": {"b": {"c": []}}}),
]


# ------------------------------------------------------------------------------------------------- mutations


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container with each of its keys or positions."""
    waiting = [tree]
    while waiting:
        here = waiting.pop()
        pairs = list(here.items() if isinstance(here, dict) else enumerate(here))
        for key, value in pairs:
            yield here, key
            if isinstance(value, (dict, list)):
                waiting.append(value)


def plain(value: Any) -> Any:
    if isinstance(value, Map | dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


TREES = {path: plain(read_source(path, text)) for path, text in FILES.items() if not path.endswith(".cases.yaml")}


@st.composite
def mutated_trees(draw: st.DrawFn) -> tuple[str, dict[str, bytes]]:
    """A pack with one to three nodes dropped, doubled, exchanged or given a value of another kind."""
    pack = draw(st.sampled_from(sorted(PACKS)))
    path = draw(st.sampled_from([pack, pack, pack, *SHARED]))
    tree = copy.deepcopy(TREES[path])
    for _ in range(draw(st.integers(1, 3))):
        known = list(places(tree))
        if not known:
            break
        here, key = draw(st.sampled_from(known))
        if (isinstance(here, dict) and key not in here) or (isinstance(here, list) and key >= len(here)):
            continue
        _mutate(draw, here, key, known)
    return pack, {
        **PACKS[pack],
        path: yaml.safe_dump(tree, allow_unicode=True, sort_keys=False).encode(errors="replace"),
    }


def _mutate(draw: st.DrawFn, here: Any, key: Any, known: list[tuple[Any, Any]]) -> None:
    match draw(st.sampled_from(["drop", "hostile", "exchange", "rename", "double", "nest"])):
        case "drop":
            del here[key]
        case "hostile":
            here[key] = copy.deepcopy(draw(st.sampled_from(HOSTILE)))
        case "exchange":
            other, name = draw(st.sampled_from(known))
            if isinstance(other, dict) and name in other:
                here[key] = copy.deepcopy(other[name])
        case "rename" if isinstance(here, dict):
            here[draw(st.sampled_from(["when", "do", "on", "x", "", "key", str(key) + "s"]))] = here.pop(key)
        case "double" if isinstance(here, list):
            here.append(copy.deepcopy(here[key]))
        case _:
            here[key] = [here[key]] if draw(st.booleans()) else {"all": [copy.deepcopy(here[key])]}


@st.composite
def mutated_texts(draw: st.DrawFn) -> tuple[str, dict[str, bytes]]:
    """A pack whose text was cut, doubled or spoilt somewhere, as a bad merge or a bad editor does it."""
    pack = draw(st.sampled_from(sorted(PACKS)))
    path = draw(st.sampled_from([pack, *SHARED, pack.replace(".yaml", ".cases.yaml")]))
    text = PACKS[pack].get(path, PACKS[pack][pack])
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 60)))
        put = draw(
            st.sampled_from(
                [b"", b"\t", b"\x00", b"\r", b"\xff", b"&a ", b"*a", b"!!python/object:os.abort ", b"---\n", b"<<: "]
            )
            | st.binary(max_size=8)
            | st.just(text[start:end] * 2)
        )
        text = text[:start] + put + text[end:]
    return pack, {**PACKS[pack], path: text}


# ------------------------------------------------------------------------------------------------ what must hold


def log_of(loaded: Loaded, case: Any) -> list[Event]:
    return sorted(
        (
            Event(
                id=one.id,
                type=one.type,
                customer_id=case.customer.id,
                occurred_at_ms=one.at_ms,
                received_at_ms=one.received_at_ms,
                properties=dict(one.properties),
                context={"consent": {"categoryPreferences": dict(case.customer.consents)}, **one.context},
            )
            for one in case.events
            if loaded.plan.check(one.type, one.properties) is None
        ),
        key=lambda event: event.received_at_ms,
    )


def decided(done: Replayed) -> bytes:
    return msgspec.msgpack.encode([done.actions, done.records, [str(one) for one in done.failures], dict(done.states)])


def assert_sound(pack: str, files: dict[str, bytes]) -> bool:
    """Load; check what is reported, or that what is accepted decides the same events alike, whoever reads it."""
    loaded = load_rulebook_files(files, shown_as="rules")
    for problem in loaded.problems:
        assert problem.line >= 1 and problem.file.startswith("rules/") and problem.message, problem
        assert str(problem)
    if not loaded.ok:
        return False
    fast = compile_loaded(loaded, "default")
    slow = build_rulebook(
        version=loaded.version, journeys=loaded.journeys, aggregates=loaded.aggregates, conditions=interpreted
    )
    for case in [case for file in loaded.cases for case in file.cases][:6]:
        log = log_of(loaded, case)
        ran = replay(fast, log, until_ms=case.until_ms)
        assert decided(ran) == decided(replay(slow, log, until_ms=case.until_ms))
        assert [failure.message for failure in ran.failures] == [], (pack, case.name)
    return True


@pytest.mark.parametrize("kind", [mutated_trees, mutated_texts], ids=["its tree", "its text"])
def test_a_pack_with_something_wrong_in_it_is_reported_or_works(effort: Effort, kind: Callable[[], Any]) -> None:
    accepted = refused = 0

    @effort(60)
    @given(mutation=kind())
    def holds(mutation: tuple[str, dict[str, bytes]]) -> None:
        nonlocal accepted, refused
        if assert_sound(*mutation):
            accepted += 1
        else:
            refused += 1

    holds()
    assert accepted > 2
    assert refused > 20


def test_the_packs_themselves_are_sound() -> None:
    assert len(PACKS) > 10
    assert all(assert_sound(pack, files) for pack, files in list(PACKS.items())[:3])


# --------------------------------------------------------------------------------------------------------- bounds

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 9)}]\n" for number in range(1, 10)
)
BOMBS = {
    "aliases of aliases": (LAUGHS, "anchors and merge keys (&name, *name, <<) are not supported"),
    "an alias of itself": ("a: &a [*a]\n", "anchors and merge keys (&name, *name, <<) are not supported"),
    "a merge key": ("a: {<<: {b: 1}}\n", "anchors and merge keys (&name, *name, <<) are not supported"),
    "lists in lists": ("a: " + "[" * 100_000, "nested more than 32 levels deep"),
    "mappings in mappings": ("a: " + "{a: " * 100_000, "nested more than 32 levels deep"),
    "indents": ("".join(" " * number + "a:\n" for number in range(600)), "nested more than 32 levels deep"),
    "dashes": ("- " * 200_000 + "x\n", "nested more than 32 levels deep"),
    "ten million characters in a line": ("a: " + "x" * 10_000_000, "the file is larger than 2,000,000 bytes; split it"),
    "a million values": ("a: [" + "1," * 950_000 + "]", "the file holds more than 400,000 values; split it"),
    "a tag": ("a: !!python/object/apply:os.abort []\n", "tags such as "),
    "a NUL": ("a: \x00\n", "the character #x00 is not allowed in YAML"),
    "a tab": ("a:\n\tb: 1\n", "indent with spaces, not tabs"),
    "two documents": ("a: 1\n---\nb: 2\n", "a second document begins here; use one file for each"),
    "one key twice": ("a: 1\na: 2\n", 'duplicate key "a"; it is already on line 1'),
}


@pytest.mark.parametrize(("text", "said"), BOMBS.values(), ids=BOMBS)
def test_a_file_that_would_blow_up_is_refused_by_its_limit(text: str, said: str) -> None:
    with pytest.raises(SourceFault) as fault:
        read_source("rules/bomb.yaml", text.encode())
    assert said in fault.value.message
    assert fault.value.line >= 1


def test_a_bomb_takes_no_more_memory_than_its_text_is_worth() -> None:
    tracemalloc.start()
    try:
        for name in ("aliases of aliases", "lists in lists", "mappings in mappings", "indents", "dashes"):
            content = BOMBS[name][0].encode()
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            assert not load_rulebook_files({"tracking_plan.yaml": b"events: {}", "bomb.yaml": content}).ok
            _, peak_bytes = tracemalloc.get_traced_memory()
            assert peak_bytes - before < 8 * len(content) + 1_000_000, name
    finally:
        tracemalloc.stop()


def test_a_scalar_means_the_same_to_whoever_reads_it(effort: Effort) -> None:
    @effort(300)
    @given(
        text=st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.from_regex(r"[-+]?[0-9_.eE:x]{1,20}")
    )
    def holds(text: str) -> None:
        value = plain_value(text)
        assert value is None or isinstance(value, (str, int, float))
        assert not isinstance(value, float) or isfinite(value), "a number is never NaN or beyond all bounds"

    holds()
