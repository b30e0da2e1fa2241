"""Opting out: the words for it, and what it closes where a customer unsubscribes through a connector.

It closes the channel, for every purpose, or the purposes that the connector's settings name, on every channel: who
leaves a newsletter still wants the receipt. An outcome says which by its property ``purposes``; without it the channel
is meant. A bounce always closes the channel, because there is nobody at the address.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Annotated
from unicodedata import category, combining, normalize

from pydantic import AfterValidator, BeforeValidator, Field

from connectors.callback import Outcome, OutcomeType

Purpose = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]


def _scope(value: object) -> object:
    if value == "channel":
        return ()
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError("must be channel, or a list of purposes of consent such as [marketing]")
    return tuple(value)


#: What unsubscribing closes, written ``channel`` (which is no purpose here) or as a list of purposes.
Scope = Annotated[tuple[Purpose, ...], Field(max_length=20), BeforeValidator(_scope)]
SCOPE_DESCRIPTION = (
    "What unsubscribing closes: channel, or a list of the purposes of consent, which end on every channel."
)

_OPT_OUTS = frozenset({OutcomeType.UNSUBSCRIBED, OutcomeType.RESUBSCRIBED})


def scoped(outcome: Outcome, purposes: Sequence[str]) -> Outcome:
    """Return the outcome with what it closes or opens, unless it says so itself or is of another type."""
    if outcome.type not in _OPT_OUTS or not purposes or "purposes" in outcome.properties:
        return outcome
    return replace(outcome, properties={**outcome.properties, "purposes": list(purposes)})


# ------------------------------------------------------------------------------------------------------- words

#: Words that stop messages, in English, German, French, Spanish, Portuguese, Italian, Dutch, Polish, Turkish, Hindi,
#: Arabic and Chinese. Each is a whole message; none is an answer that people give to other questions.
STOP_WORDS: tuple[str, ...] = (
    *("stop", "stop all", "unsubscribe", "unsubscribe me", "opt out", "stop promotions", "stop messages", "remove me"),
    *("stopp", "abmelden", "abbestellen"),
    *("arret", "arrêter", "arrêtez", "désabonner", "désinscrire", "désinscription", "stop pub"),
    *("alto", "parar", "baja", "darse de baja", "cancelar suscripción"),
    *("pare", "sair", "descadastrar", "cancelar inscrição"),
    *("ferma", "basta", "disiscriviti", "annulla iscrizione"),
    *("afmelden", "uitschrijven", "stoppen"),
    *("wypisz", "wypisz mnie", "rezygnuję"),
    *("dur", "durdur", "ret", "abonelikten cik"),
    *("रोकें", "बंद करें", "बंद करो", "band karo"),
    *("إيقاف", "توقف", "إلغاء الاشتراك"),
    *("退订", "停止", "取消订阅"),
)
#: Words that let messages come again: none that is an answer to another question, because they give consent back.
START_WORDS: tuple[str, ...] = (
    *("start", "unstop", "subscribe", "resubscribe", "opt in"),
    *("wieder anmelden", "abonnieren"),
    *("réabonner", "réinscrire"),
    *("alta", "reactivar", "suscribir"),
    *("reativar", "inscrever"),
    *("riattiva", "iscrivimi"),
    *("aanmelden", "inschrijven"),
    *("wznów", "zapisz mnie"),
    *("başla", "başlat", "abone ol"),
    *("शुरू करें", "शुरू करो", "shuru karo"),
    *("ابدأ", "اشتراك"),
    *("恢复订阅", "订阅"),
)
STOP_DESCRIPTION = (
    "What customers write, or the button that they press, to get no more; case, accents and punctuation do not matter."
)
START_DESCRIPTION = "What they write, or press, to get messages again."

#: A longer message says more than a word.
_WORD_CHARS_MAX = 60
#: Letters that are another one with a stroke, and that Unicode does not take apart.
_STROKES = str.maketrans("ıłøđ", "ilod")


def plain_word(text: str) -> str:
    """Return the letters and digits of a message, without case, accents, blanks and punctuation; "" for a long one."""
    if len(text.strip()) > _WORD_CHARS_MAX:
        return ""
    apart = normalize("NFKD", text.casefold()).translate(_STROKES)
    # Vowel signs of Indic scripts are letters of their own (class 0); accents are not.
    return "".join(one for one in apart if one.isalnum() or (category(one).startswith("M") and not combining(one)))


def _word(written: str) -> str:
    if not plain_word(written):
        raise ValueError(f"must have 1 to {_WORD_CHARS_MAX} characters, a letter or digit among them")
    return written


Words = tuple[Annotated[str, AfterValidator(_word)], ...]


class OptOutWords:
    """Tells an opt-out, or its end, from any other message. A word that is both stops."""

    def __init__(self, stop: Iterable[str], start: Iterable[str]) -> None:
        self._stop = frozenset(map(plain_word, stop))
        self._start = frozenset(map(plain_word, start))

    def type_of(self, *said: str) -> OutcomeType:
        """Return what a message is, by its text or by the button that was pressed."""
        words = {plain_word(one) for one in said} - {""}
        if words & self._stop:
            return OutcomeType.UNSUBSCRIBED
        return OutcomeType.RESUBSCRIBED if words & self._start else OutcomeType.MESSAGE_RECEIVED
