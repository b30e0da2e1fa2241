"""Opting out: a word is known however it is typed, and nothing else is taken for one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some
from pydantic import TypeAdapter, ValidationError

from connectors.callback import OutcomeType
from connectors.opt_out import START_WORDS, STOP_WORDS, OptOutWords, Words, plain_word

WORDS = OptOutWords(STOP_WORDS, START_WORDS)
STOP, START, MESSAGE = OutcomeType.UNSUBSCRIBED, OutcomeType.RESUBSCRIBED, OutcomeType.MESSAGE_RECEIVED


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        *((said, STOP) for said in ("Stop.", "STOP!", " s t o p ", "«Stop»", "stop\n", "Stop \U0001f64f")),
        *((said, STOP) for said in ("opt out", "OPT-OUT", "Optout", "\u200bSTOP\ufeff", "S\u0301TOP")),
        *((said, STOP) for said in ("\uff33\uff34\uff2f\uff30", "ARRET", "arrêt", "Arre\u0302t !")),
        *((said, STOP) for said in ("¡Baja!", "DARSE DE BAJA", "Désabonner", "rezygnuje", "बंद करें", "ايقاف", "退订。")),
        *((said, STOP) for said in ("Abonelikten \u00c7\u0131k", "ABONELİKTEN ÇIK")),
        *((said, START) for said in ("Start", "UNSTOP!", "opt in", "Wznow", "शुरू करें", "BAŞLA", "ابدأ")),
        *((said, MESSAGE) for said in ("", " ", "!!!", "\U0001f64f", "yes", "no", "OK", "1", "Change", "Confirm")),
        *((said, MESSAGE) for said in ("please stop by", "don't stop", "bus stop 4", "stop" * 16, "रुको", "start?stop")),
    ],
)
def test_a_word_is_known_however_it_is_typed(said: str, meant: OutcomeType) -> None:
    assert WORDS.type_of(said) is meant


@pytest.mark.parametrize(("words", "meant"), [(STOP_WORDS, STOP), (START_WORDS, START)])
def test_every_word_that_is_shipped_means_what_it_should(words: tuple[str, ...], meant: OutcomeType) -> None:
    assert {word: WORDS.type_of(word.upper()) for word in words} == dict.fromkeys(words, meant)
    assert len({plain_word(word) for word in words}) == len(words)


def test_a_button_counts_as_much_as_its_title_and_a_word_that_is_both_stops() -> None:
    assert WORDS.type_of("Nein danke", "STOP") is STOP
    assert OptOutWords(["go"], ["GO!"]).type_of("go") is STOP


def test_words_of_ones_own_take_the_place_of_those_shipped() -> None:
    own = OptOutWords(["bas"], [])
    assert (own.type_of("Bas!"), own.type_of("stop"), own.type_of("start")) == (STOP, MESSAGE, MESSAGE)


def test_the_readme_lists_the_words() -> None:
    readme = (Path(__file__).parents[3] / "connectors" / "README.md").read_text(encoding="utf-8")
    readme = " ".join(readme.split())
    assert [word for word in (*STOP_WORDS, *START_WORDS) if f"`{word}`" not in readme] == []


@pytest.mark.parametrize("word", ["", "!", "x" * 61])
def test_a_setting_that_no_message_can_be_is_refused(word: str) -> None:
    with pytest.raises(ValidationError, match="must have 1 to 60 characters, a letter or digit among them"):
        TypeAdapter(Words).validate_python([word])


@given(some.text(max_size=80))
def test_whatever_is_written_is_read_alike_in_any_case(text: str) -> None:
    assert WORDS.type_of(text) in {STOP, START, MESSAGE}
    assert plain_word(plain_word(text)) == plain_word(text) or len(plain_word(text)) > 60
