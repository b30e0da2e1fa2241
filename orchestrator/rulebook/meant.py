"""What authors mean who come from elsewhere: the words of other systems, in this language.

``and`` is ``all`` here, ``>=`` is ``gte``, a trigger is ``on``, a delay a ``wait``. Whoever finds a word that it does
not know asks here before it looks for one that is merely spelt alike. Every function returns the word of ours, or
nothing where it cannot tell.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from orchestrator.rulebook.meant_value import is_bare, meant_days, plain_word
from orchestrator.rulebook.span import WEEKDAYS


def _by_word(table: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Return each word of the table's lists with the words of ours that it may stand for, likeliest first."""
    found: dict[str, tuple[str, ...]] = {}
    for ours, words in table.items():
        for word in words.split(", "):
            found[word] = (*found.get(word, ()), ours)
    return found


#: Operators, by ours.
_OPERATORS = _by_word(
    {
        "eq": "=, ==, ===, is, equal, equals, equal to, is equal to, equals to, exactly, is exactly",
        "ne": "!=, !==, <>, ≠, not, neq, not eq, is not, isnt, not equal, not equals, does not equal, not equal to, "
        "is not equal to, is different from, different from",
        "gte": ">=, =>, ≥, ge, at least, min, minimum, from, not less than, greater or equal, greater than or equal, "
        "greater than equal, greater than or equal to, greater than equals, greater or equal to, "
        "is greater than or equal to, is at least, more than or equal to, on or after",
        "gt": ">, greater, greater than, is greater than, more, more than, is more than, above, over, exceeds, after, "
        "older than, longer ago than, is after, later than, larger than, bigger than, higher than",
        "lte": "<=, =<, ≤, le, at most, max, maximum, up to, not more than, less or equal, less than or equal, "
        "less than equal, less than or equal to, less than equals, less or equal to, is less than or equal to, "
        "is at most, fewer than or equal to, on or before",
        "lt": "<, less, less than, is less than, lesser, fewer, fewer than, below, under, before, is before, "
        "earlier than, smaller than, lower than, newer than, in the last, within the last, more recent than",
        "in": "one of, is one of, any of, is any of, is in, in list, equals any, equals any of, is equal to any of",
        "not_in": "nin, none of, is none of, not one of, is not any of, is not one of, is not in, not any of, notin",
        "contains": "contain, include, includes, has, like, is like, ~, contains text, contains any, contains any of",
        "starts_with": "starts, startswith, begins, begins with, prefix, has prefix, start with",
        "matches": "=~, regex, regexp, re, match, matches regex, pattern, matches pattern, rlike",
        "exists": "exist, is set, set, is known, known, present, is present, has value, has any value, any value, "
        "is not empty, not empty, is not null, not null, is defined, defined, is not blank, not blank, has a value",
        "missing": "is missing, is not set, not set, unset, is unknown, unknown, is empty, empty, is null, null, nil, "
        "not exists, does not exist, doesnt exist, not exist, has no value, undefined, is blank, blank, absent, "
        "has never been set, is not known, not known, not present, is undefined",
        "between": "range, in range, is between, within, within range",
    }
)

#: Operators that are a condition of another shape here.
_SHAPES = {
    **dict.fromkeys(
        ("not contains", "does not contain", "doesnt contain", "notcontains", "not like", "excludes", "not includes"),
        "`not: {field: …, op: contains, value: …}`",
    ),
    **dict.fromkeys(("ends with", "endswith", "suffix", "ends"), '`op: matches` with a value that ends in "$"'),
    **dict.fromkeys(("not starts with", "does not start with"), "`not: {field: …, op: starts_with, value: …}`"),
    **dict.fromkeys(("not between", "is not between", "outside"), "`not: {field: …, op: between, value: [low, high]}`"),
    **dict.fromkeys(
        ("true", "is true", "istrue", "yes"),
        "`op: eq` with `value: true`",
    ),
    **dict.fromkeys(("false", "is false", "isfalse", "no"), "`op: eq` with `value: false`"),
}

#: Keys, by ours.
_KEYS = _by_word(
    {
        "all": "and, both, every, all of, match all, must, &&",
        "any": "or, either, any of, match any, one of, some, ||",
        "not": "none, nor, neither, none of, unless, not any, must not, exclude, not in segment, "
        "not in list, not in stage",
        "field": "property, attribute, trait, attr, prop, path, variable, fact, profile attribute, custom attribute, "
        "user property, event property, key",
        "op": "operator, operation, comparison, comparator, compare, is",
        "value": "values, val, threshold, equals, than, to",
        "on": "trigger, triggers, triggered by, trigger event, start, starts, starts when, start when, entry, "
        "entry event, enrollment, enroll when, entered by",
        "when": "condition, conditions, filter, filters, criteria, if, audience, eligibility, rules, where, "
        "entry conditions, only if",
        "where": "condition, conditions, filter, filters, criteria, if, when, property filters, only if",
        "do": "action, actions, steps, step, then, play, flow, path, run, tasks",
        "id": "name, key, rule, rule id",
        "title": "name, label, display name, description",
        "exit_when": "exit, exits, exit on, exit if, exit criteria, exit conditions, exit event, exit events, "
        "end when, stop when, stop on, stop if, unenroll when, until",
        "wait": "delay, pause, sleep, time delay, wait until, hold, after",
        "wait_for": "wait for event, await, wait until event, listen",
        "send": "message, notify, deliver, action",
        "connector": "channel, via, provider, integration, by, kind, through",
        "template": "message, content, template id, template name, creative, template key",
        "params": "parameters, variables, vars, data, args, arguments, merge fields, personalization, values, fields",
        "priority": "importance, urgency",
        "deadline": "expires, expires in, expire after, ttl, expiry, valid for, timeout",
        "cap": "frequency cap, frequency capping, frequency, caps, capping, rate limit, max sends, message limit",
        "cooldown": "cool down, suppress for, resend after, min interval",
        "quiet_hours": "quiet, quiet time, do not disturb, dnd, sending hours, send window, silent hours",
        "consent": "consents, opt in, optin, subscription, subscriptions, purpose, purposes, permission",
        "use": "uses, extends, include, includes, inherit, set, sets",
        "within": "window, in last, in the last, timeframe, time frame, period, during, timespan, span, for, timeout, "
        "last, over",
        "event": "event name, event type, events, type, name, track, metric",
        "in_segment": "segment, in list, list, audience, cohort, member of, segments, segment id",
        "in_stage": "stage, stages, current stage",
        "stage": "in stage, stages",
        "count": "event count, has done, did, performed, done, happened, times",
        "since_last": "last, time since, since, last done, time since last",
        "since_first": "time since first, first done",
        "first": "first time, is first",
        "split": "ab test, abtest, experiment, variants, branches, random split, test",
        "case": "variant, arm, branch, cohort",
        "else": "otherwise, no, false, else do",
        "then": "yes, true, do",
        "set_trait": "update profile, set attribute, update trait, set property, update user, set, set traits, "
        "update property, set profile",
        "set_stage": "move to, stage, go to, move",
        "exit": "end, stop, end play, unenroll",
        "from": "start, begin, starts, begins, start time, after",
        "to": "end, ends, until, end time, till, before",
        "zone": "timezone, tz, time zone",
        "max": "limit, maximum, count, times, most, at most, messages",
        "per": "interval, every, period, within, window, in",
        "for": "duration, period, within, span, after, wait, timeout",
        "after": "since, then, following",
        "of": "without, not, missing, no, event",
        "at": "time, hour, when, time of day",
        "days": "day, weekdays, weekday, on",
        "goal": "conversion, converts, success, conversion event",
        "final": "end, terminal, last, ends",
        "goal_window": "conversion window, attribution window, goal within",
        "reentry": "re entry, re enter, reenter, allow reentry, re enrollment, reenrollment",
        "fallback": "otherwise, alternative, backup, else",
        "fallbacks": "fallback",
        "if_never": "never, default, if none, if missing",
        "default": "fallback, if missing, otherwise, else",
        "same": "key, tie, matching, correlate, join",
        "over": "threshold, above, score, value",
        "steps": "events, sequence",
        "enum": "values, options, allowed, allowed values, choices, one of",
        "type": "datatype, data type, kind",
        "properties": "attributes, fields, props, parameters, params",
        "arbitrate": "arbitration, priority, compete, slot",
        "lateness": "late, grace, allowed lateness",
    }
)

#: Words of closed lists, by ours.
_WORDS = _by_word(
    {
        "string": "text, str, varchar, char, date, datetime, timestamp, time, moment, uuid, email, phone, url, enum",
        "number": "float, double, decimal, numeric, money, currency, amount, price",
        "integer": "int, long, bigint, whole number, count",
        "boolean": "bool, flag, yes/no, true/false",
        "array": "list, set, tuple, collection",
        "object": "dict, map, mapping, hash, json, struct",
        "defer": "delay, hold, wait, later, postpone, send later, queue, reschedule, send when available",
        "drop": "skip, cancel, discard, suppress, ignore, abort, do not send, never",
        "fallback": "alternative, backup, other",
        "call": "voice, phone, phone call, telephone, ivr, calls",
        "sms": "text, text message, texts, mms",
        "email": "mail, e-mail, emails, e mail",
        "push": "notification, push notification, mobile push, web push, app push, in app",
        "chat": "slack, teams, message",
        "whatsapp": "wa, whats app",
        "latest": "last, newest, recent, restart",
        "first": "earliest, oldest, initial",
        "retry": "again, resend, repeat",
    }
)

#: Params of messages, by ours.
_PARAMS = _by_word(
    {
        "text": "body, message, content, msg, copy, plaintext, plain text, bodytext, body text, text body, "
        "message body",
        "html": "htmlbody, html body, body html, htm, body",
        "subject": "subject line, subjectline, title, heading, header, email subject",
        "title": "heading, header, subject, headline",
        "to": "recipient, to email, to address, to number, to phone, receiver, send to, phone, phone number, email, "
        "email address, number, mobile, address, token, device token, push token, device",
        "phone": "to, phone number, number, mobile, recipient, to number, call, msisdn",
        "email": "to, mail, email address, recipient, e-mail, contact email",
        "channel": "to, room, slack channel, target",
        "script": "text, message, say, prompt",
        "say": "text, message, script, prompt",
        "agent": "queue, agent id, assistant, bot",
        "link": "url, deeplink, deep link, action url, click action, href",
        "image": "picture, image url, icon, media url",
        "data": "payload, custom data, extra, extras",
        "media_urls": "media, media url, image, images, picture, attachments",
        "variables": "params, parameters, args, placeholders, values",
        "note": "text, message, body, comment",
        "task": "title, todo, to do",
        "reply_to": "reply, replyto",
    }
)


def meant_param(word: str, allowed: Collection[str]) -> str:
    """Return the param of ours among those allowed that another system's stands for."""
    return _first_of(_PARAMS, word, allowed)


def _first_of(table: Mapping[str, tuple[str, ...]], word: str, allowed: Collection[str]) -> str:
    return next((ours for ours in table.get(plain_word(word), ()) if ours in allowed), "")


def meant_key(word: str, allowed: Collection[str]) -> str:
    """Return the key of ours among those allowed that a word of another system stands for."""
    return _first_of(_KEYS, word, allowed)


def meant_word(word: str, allowed: Collection[str]) -> str:
    """Return how to write what a word outside of a closed list stands for: an operator, a kind, a weekday, a type."""
    if set(WEEKDAYS) <= set(allowed):
        return meant_days(word)
    if "gte" in allowed:
        shape = _SHAPES.get(plain_word(word), "") if "contains" in allowed else ""
        return _first_of(_OPERATORS, word, allowed) or shape
    return _first_of(_WORDS, word, allowed)


#: What other systems call the customer and the event, in paths.
_ROOTS = _by_word(
    {
        "profile": "customer, contact, user, person, recipient, subscriber, lead, member, trait, traits, profiles, "
        "attributes, attribute, user attributes, custom attribute, custom attributes, user properties, people, "
        "individual, client, account, patient, student, buyer, audience, userattribute",
        "event": "event properties, properties, property, trigger, trigger properties, api trigger properties, "
        "event attributes, eventattribute, order, cart, payload, track, message event",
    }
)


def meant_root(word: str) -> str:
    """Return ``profile`` or ``event`` for what another system calls the customer or the event in its paths."""
    return _first_of(_ROOTS, word, ("profile", "event"))


# ------------------------------------------------------------------------------------------------ whole conditions

_EXPRESSION = re.compile(
    r"(?P<field>(?:event|profile|context|run)\.[\w.]+)\s*(?P<op>[<>=!~]{1,3}|[a-z_ ]+?)\s*(?P<value>[-\w.\"' ]+)?"
)


def meant_condition(value: object) -> str:
    """Return how to write a condition that is given as a sentence, such as "event.total >= 40", or as a list."""
    if isinstance(value, list):
        return "`all:` above the list"
    if not isinstance(value, str):
        return ""
    text = value.strip()
    if is_bare(text):
        return f"{{in_segment: {text}}}"
    found = _EXPRESSION.fullmatch(text)
    op = _first_of(_OPERATORS, found["op"], _ALL_OPERATORS) or found["op"].strip() if found else ""
    if found is None or op not in _ALL_OPERATORS:
        return ""
    right = "" if found["value"] is None else f", value: {found['value'].strip()}"
    return f"{{field: {found['field']}, op: {op}{right}}}"


_ALL_OPERATORS = frozenset(one for row in _OPERATORS.values() for one in row)
