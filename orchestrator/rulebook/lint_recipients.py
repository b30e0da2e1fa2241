"""Lint of recipients: whom a message goes to and what it says, by its kind.

A connector of one type names its params itself (``lint_connectors``). A webhook takes any, so what is missing there
is only a warning; but a text that goes to a mailbox arrives nowhere, whoever carries it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.rulebook.connector_entry import types_by_name
from orchestrator.rulebook.lint_connectors import sends_of
from orchestrator.rulebook.meant import meant_param
from orchestrator.rulebook.models.part import Part
from orchestrator.rulebook.models.play import SendPart
from orchestrator.rulebook.names import Names
from orchestrator.rulebook.problem import did_you_mean, letters

_PHONE, _MAIL, _DEVICE = "phone number", "e-mail address", "device's token"
#: Words in the names of fields and in values that tell an address of each sort.
_SIGNS: Mapping[str, re.Pattern[str]] = {
    _MAIL: re.compile(r"e?mail", re.IGNORECASE),
    _PHONE: re.compile(r"phone|mobile|msisdn|whatsapp|(^|_)(tel|cell)", re.IGNORECASE),
    _DEVICE: re.compile(r"token|device|fcm|apns", re.IGNORECASE),
}
_LITERALS: Mapping[str, re.Pattern[str]] = {
    _MAIL: re.compile(r"[^@\s{}]+@[^@\s{}]+\.[^@\s{}]+"),
    _PHONE: re.compile(r"\+?[\d\s().-]{7,20}"),
}
_LONE = re.compile(r"\s*\{\{-?\s*(?:event|profile|params)((?:\.[A-Za-z_]\w*)+)\s*(?:\|.*)?-?\}\}\s*")
#: Names under which other services keep what a message says, and whom it goes to.
_OTHER_BODY = re.compile(r"template|campaign|payload|^data$|^blocks$|^variables$", re.IGNORECASE)
_OTHER_RECIPIENT = re.compile(r"recipient|customer|user|profile|^id$|external|address|number|^from$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Message:
    """What a message of one kind is: where it goes, in which params, and what it ``needs``, one of each group."""

    noun: str
    goes_to: str
    address: str
    to: tuple[str, ...]
    needs: tuple[tuple[str, ...], ...] = ()
    example: str = ""


_MESSAGES: Mapping[str, _Message] = {
    "sms": _Message("a text", "goes to a phone number", _PHONE, ("to",), (("text",),), "{{ profile.phone }}"),
    "whatsapp": _Message(
        "a WhatsApp message", "goes to a phone number", _PHONE, ("to",), (("text", "template"),), "{{ profile.phone }}"
    ),
    "call": _Message(
        "a call",
        "goes to a phone number",
        _PHONE,
        ("phone",),
        (("agent", "script", "say", "url", "twiml"),),
        "{{ profile.phone }}",
    ),
    "email": _Message(
        "an e-mail",
        "goes to an e-mail address",
        _MAIL,
        ("to",),
        (("text", "html"), ("subject",)),
        "{{ profile.email }}",
    ),
    "push": _Message(
        "a push notification",
        "goes to the token of a device",
        _DEVICE,
        ("to", "topic"),
        (("text", "title", "data"),),
        "{{ profile.push_token }}",
    ),
    "chat": _Message("a chat message", "goes to a channel", "", ("channel",), (("text",),)),
    "crm": _Message(
        "a contact", "is found by an e-mail address", _MAIL, ("email", "external_id"), (), "{{ profile.email }}"
    ),
}
#: Connector types that hand nothing to anybody: a log, and a topic whose readers know what to do.
_NO_DELIVERY = frozenset({"log", "kafka"})


def lint_recipients(names: Names) -> None:
    """Check what every send of every rule hands to its connector."""
    seen: set[tuple[str | None, str]] = set()
    for source in names.journeys.values():
        for rule in source.rules:
            for send in sends_of(rule.do):
                entry = names.connectors.get(send.connector)
                if entry is None or ((send.template, entry.name) in seen and not send.params):
                    continue
                if not send.params:
                    seen.add((send.template, entry.name))
                _SendLint(names, send, entry.kind, entry.type).check()


class _SendLint:
    """Checks one send; whatever is wrong is told where it is written, in the template or in the send."""

    def __init__(self, names: Names, send: SendPart, kind: str, connector_type: str) -> None:
        self._report = names.report
        self._message = _MESSAGES.get(kind)
        self._known = types_by_name().get(connector_type)
        self._silent = connector_type in _NO_DELIVERY
        shared = names.templates.get(send.template) if send.template else None
        own = {} if shared is None else shared.params
        self._params: dict[str, Any] = {**own, **send.params} if shared is not None else dict(send.params)
        self._homes: dict[str, Part] = dict.fromkeys(send.params, send)
        self._at: Part = send
        if shared is not None:
            self._homes = {**dict.fromkeys(own, shared), **self._homes}
            self._at = shared
        # A template that is not there, or is written for another kind, is reported where it is sent.
        self._unfit = shared.kind not in (None, kind) if shared is not None else send.template is not None

    def check(self) -> None:
        message = self._message
        if message is None or self._unfit:
            return
        for param in message.to:
            if param in self._params:
                self._recipient(message, param)
        if not self._takes_any():
            return
        if message.address:
            self._lacks_recipient(message)
        else:
            for param in sorted(self._params.keys() & {"to", "phone", "email"}):
                self._tell(param, f"{message.noun} {message.goes_to}: write `channel`, or leave it out")
        self._words(message)

    def _takes_any(self) -> bool:
        """Return whether the connector does not name its params itself, and hands them to somebody."""
        free = self._known is not None and self._known.action_params.model_config.get("extra") == "allow"
        return free and not self._silent

    # ---------------------------------------------------------------------------------------- recipients

    def _recipient(self, message: _Message, param: str) -> None:
        value = self._params[param]
        if isinstance(value, (int, float)) and not isinstance(value, bool) and message.address == _PHONE:
            self._tell(param, f'{message.noun} {message.goes_to}, as text: write "+{value}"')
            return
        found = _sort_of(value, message.address)
        if found and found != message.address:
            example = f', such as "{message.example}"' if message.example else ""
            self._tell(param, f"{message.noun} {message.goes_to}{example}; this is {_a(found)}")

    def _lacks_recipient(self, message: _Message) -> None:
        if any(name in self._params for name in message.to):
            return
        wanted = message.to[0]
        near = next((name for name in self._params if did_you_mean(name, [wanted])), None)
        if near is None and any(self._is_address(name, message) for name in self._params):
            return
        remedy = _meant_by(wanted, self._params) or f'; add `{wanted}: "{message.example}"`'
        self._warn(remedy, f"{message.noun} {message.goes_to}, and none is given{remedy}")

    def _is_address(self, name: str, message: _Message) -> bool:
        """Return whether a param of another name holds the recipient: by its name, or by what it reads."""
        if _OTHER_RECIPIENT.search(name) or _SIGNS[message.address].search(name):
            return True
        return _sort_of(self._params[name], message.address) == message.address

    # --------------------------------------------------------------------------------------------- words

    def _words(self, message: _Message) -> None:
        """What it says may also be kept elsewhere, under the name of a template or a campaign."""
        if any(_OTHER_BODY.search(name) for name in self._params):
            return
        for names in message.needs:
            if any(name in self._params for name in names):
                continue
            wanted = " or ".join(f"`{name}`" for name in names[:2])
            meant = next((hint for name in names if (hint := _meant_by(name, self._params))), "")
            self._warn(meant, f"{message.noun} needs {wanted}{meant or ', and none is given'}")

    # ------------------------------------------------------------------------------------------- reports

    def _tell(self, param: str, words: str) -> None:
        self._report.error(self._homes[param].origin["params"], param, f"{param}: {words}")

    def _warn(self, hint: str, words: str) -> None:
        param = next((name for name in self._params if f"`{name}`" in hint), None)
        if param is None:
            self._report.warning(self._at.origin, "params", words)
        else:
            self._report.warning(self._homes[param].origin["params"], param, words)


def _meant_by(wanted: str, given: Iterable[str]) -> str:
    """Return that a param which is given may be meant to be the one that is wanted, or nothing."""
    for name in given:
        if wanted in letters(name) or did_you_mean(name, [wanted]) or meant_param(name, [wanted]):
            return f", and `{name}` is none: did you mean `{wanted}`?"
    return ""


def _sort_of(value: Any, wanted: str) -> str:
    """Return what sort of address a param holds, as far as its field's name or the value itself tells."""
    if not isinstance(value, str):
        return ""
    lone = _LONE.fullmatch(value)
    if lone is not None:
        name = lone[1].rpartition(".")[2]
        sorts = [sort for sort, sign in _SIGNS.items() if sign.search(name)]
    else:
        sorts = [sort for sort, form in _LITERALS.items() if form.fullmatch(value.strip())]
    return wanted if wanted in sorts else next(iter(sorts), "")


def _a(sort: str) -> str:
    return f"an {sort}" if sort == _MAIL else f"a {sort}"
