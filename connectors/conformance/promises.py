"""The promises that every connector keeps, each a check of one case. ``PROMISES`` lists them.

A promise that is not kept raises ``PromiseBroken`` with what was expected and what was seen.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from connectors.callback import Callback, CallbackReader, CallbackRefused
from connectors.conformance.bench import NAME, NOW_S, Case, How
from connectors.conformance.typed import HARMLESS, HOSTILE, Place, as_seen, differences, places
from connectors.connector_type import KINDS, Surroundings
from connectors.errors import ConnectorMisconfigured
from connectors.protocol import Connector, Delivery, Receipt, Result
from connectors.registry import build

#: The timeout of a connector whose system keeps silent, and the time after which it must have given up at the latest.
TIMEOUT_S, GIVEN_UP_AFTER_S = 0.3, 10.0
CONCURRENT = 50


class PromiseBroken(AssertionError):
    """A connector does not keep a promise; the message says which part of it and what was seen."""


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise: its name is the sentence; ``needs`` are the answers that a bench must be able to give."""

    keep: Callable[[Case], Awaitable[None]]
    needs: frozenset[How]

    @property
    def name(self) -> str:
        """The sentence, with underscores."""
        return self.keep.__name__

    def concerns(self, cannot: frozenset[How]) -> bool:
        """Whether a system that ``cannot`` answer in these ways can be asked for it."""
        return not self.needs & cannot

    async def __call__(self, case: Case) -> None:
        """Raise ``PromiseBroken`` unless the connector keeps it."""
        await self.keep(case)


def promise(*needs: How) -> Callable[[Callable[[Case], Awaitable[None]]], Promise]:
    """Make a promise of a function whose name is a sentence."""
    return lambda keep: Promise(keep, frozenset(needs))


def expect(seen: Any, expected: Any, what: str) -> None:
    """Raise ``PromiseBroken`` unless ``seen`` equals ``expected``."""
    if seen != expected:
        raise PromiseBroken(f"{what}: expected {expected!r}, saw {seen!r}")


def expect_that(condition: bool, what: str) -> None:
    """Raise ``PromiseBroken`` with ``what`` unless ``condition``."""
    if not condition:
        raise PromiseBroken(what)


# ------------------------------------------------------------------------------------------- its description


@promise()
async def it_describes_itself(case: Case) -> None:
    """Description, kinds and the description of every setting and param are there; the example agrees with them."""
    known = case.known
    expect_that(known.description.endswith("."), "the description is no sentence")
    expect_that(bool(known.kinds), "it carries no kind")
    expect(set(known.kinds) - set(KINDS), set(), "kinds that there are not")
    expect_that(case.example.kind in known.kinds, f'the example\'s kind "{case.example.kind}" is not one of its kinds')
    for model in (known.parameters, known.action_params):
        silent = sorted(name for name, field in model.model_fields.items() if not field.description)
        expect(silent, [], f"fields of {model.__name__} without a description")
    expect(known.param_name_problems(case.example.params), [], "problems of the example's param names")
    expect_that(
        (case.example.id_of is None) == bool(case.example.no_id_because),
        "the example must either find the id in a request or say why there is none",
    )


@promise()
async def it_refuses_settings_that_it_does_not_have(case: Case) -> None:
    """A misspelt setting is named."""
    try:
        build(NAME, case.settings | {"colour": "red"}, environ=case.environ, types=[case.known])
    except ConnectorMisconfigured as error:
        expect(error.problems[0].message, 'setting "colour" is unknown', "what it says of an unknown setting")
    else:
        raise PromiseBroken('setting "colour" was taken')


@promise()
async def it_does_not_start_without_its_secrets(case: Case) -> None:
    """A variable that is not set is named, with its setting and the remedy, by what it is for: sending or callbacks."""
    for setting, variable in case.settings.items():
        if not setting.endswith("_env") or not variable:
            continue
        rest = {name: value for name, value in case.environ.items() if name != variable}
        try:
            build(NAME, case.settings, environ=rest, types=[case.known])
            if case.known.callbacks is not None and case.example.callbacks:
                _reader(case, rest)
        except ConnectorMisconfigured as error:
            expect(error.setting, setting, "the setting that is named")
            expected = f'setting "{setting}" names the environment variable "{variable}", which is not set'
            expect(error.problems[0].message, expected, "what it says of a secret that is not set")
            expect_that(error.remedy.startswith(f"Set {variable}"), f"the remedy is no remedy: {error.remedy}")
        else:
            raise PromiseBroken(f"it was built without {variable}, which {setting} names")


# ---------------------------------------------------------------------------------------------------- sending


@promise()
async def it_delivers_once(case: Case) -> None:
    """The example's delivery is taken, by one attempt."""
    receipt = await _receipt(case)
    expect((receipt.result, receipt.detail), (Result.DELIVERED, ""), "result and detail")
    _expect_attempts(case, 1)


@promise(How.REFUSE)
async def it_hands_on_why_it_was_refused(case: Case) -> None:
    """What the provider will never take is REFUSED after one attempt, with the provider's answer as the detail."""
    receipt = await _receipt(case, How.REFUSE)
    expect(receipt.result, Result.REFUSED, f"the result ({receipt.detail})")
    expect_that(case.bench.refusal in receipt.detail, f'"{case.bench.refusal}" is not in: {receipt.detail}')


@promise(How.REFUSE)
async def it_attempts_a_refused_delivery_once(case: Case) -> None:
    """A refusal is not argued with."""
    await _receipt(case, How.REFUSE)
    _expect_attempts(case, 1)


@promise(How.RETRY_LATER)
async def it_waits_as_long_as_it_is_asked_to(case: Case) -> None:
    """ "Not now" is RETRY after one attempt, with the wait that the provider wishes."""
    receipt = await _receipt(case, How.RETRY_LATER)
    seen = (receipt.result, receipt.retry_after_s)
    expect(seen, (Result.RETRY, case.bench.retry_after_s), f"result and wait ({receipt.detail})")
    _expect_attempts(case, 1)


@promise(How.BROKEN)
async def it_may_be_retried_when_the_system_is_broken(case: Case) -> None:
    """The provider's own fault is RETRY, after one attempt."""
    receipt = await _receipt(case, How.BROKEN)
    expect(receipt.result, Result.RETRY, f"the result ({receipt.detail})")
    _expect_attempts(case, 1)


@promise(How.GONE)
async def it_may_be_retried_when_nothing_listens(case: Case) -> None:
    """Nothing was written, so trying again is safe."""
    receipt = await _receipt(case, How.GONE)
    expect(receipt.result, Result.RETRY, f"the result ({receipt.detail})")


@promise(How.HANG)
async def it_does_not_know_what_became_of_a_delivery_without_an_answer(case: Case) -> None:
    """Silence after the whole delivery was taken is UNKNOWN, within the timeout."""
    await case.bench.answers(How.HANG)
    async with case.opened(timeout_s=TIMEOUT_S) as connector:
        try:
            async with asyncio.timeout(GIVEN_UP_AFTER_S):
                receipt = await connector.send(case.delivery())
        except TimeoutError:
            raise PromiseBroken(f"it had not given up after {GIVEN_UP_AFTER_S:g} s") from None
    expect(receipt.result, Result.UNKNOWN, f"the result ({receipt.detail})")
    _expect_attempts(case, 1)


@promise(How.BAD_CREDENTIALS)
async def it_never_takes_wrong_credentials_for_a_delivery(case: Case) -> None:
    """A delivery under wrong secrets is REFUSED, so that somebody is told, or RETRY; it is never thought delivered."""
    receipt = await _receipt(case, How.BAD_CREDENTIALS)
    expect_that(receipt.result in {Result.REFUSED, Result.RETRY}, f"the result is {receipt.result}")
    expect_that(bool(receipt.detail), "the receipt has no detail")


@promise()
async def it_passes_the_id_on_and_repeats_itself_to_the_letter(case: Case) -> None:
    """Every attempt says the same under the same id, but for the fields that the example names."""
    if case.example.has_no_other_side:
        return
    async with case.opened() as connector:
        for attempt in (1, 2):
            await connector.send(case.delivery(attempt=attempt))
    first, second = (exchange.request for exchange in case.attempts)
    if case.example.id_of is not None:
        for request in (first, second):
            expect(case.example.id_of(request), case.delivery().id, "the id in a request")
    bodies = [_without(request.get("body"), case.example.varies_with_attempt) for request in (first, second)]
    masked = [_without(body, case.example.varies) for body in bodies]
    expect(masked[1], masked[0], "the second attempt's body")


@promise()
async def it_may_be_called_concurrently(case: Case) -> None:
    """Many deliveries at once arrive, each once and under its own id."""
    ids = [f"id-{number}" for number in range(CONCURRENT)]
    async with case.opened() as connector:
        receipts = await asyncio.gather(*(connector.send(case.delivery(id=name)) for name in ids))
    expect([receipt.result for receipt in receipts], [Result.DELIVERED] * CONCURRENT, "the results")
    _expect_attempts(case, CONCURRENT)
    if not case.example.has_no_other_side and case.example.id_of is not None:
        expect(sorted(map(case.example.id_of, (one.request for one in case.attempts))), sorted(ids), "the ids")


# ----------------------------------------------------------------------------------------------------- params


@promise()
async def it_refuses_wrong_params_unsent(case: Case) -> None:
    """A param that is missing, empty, unknown or none of a group that needs one is named before anything is sent."""
    async with case.opened() as connector:
        for params, said in _wrong_params(case):
            receipt = await connector.send(case.delivery(params=params))
            expect(receipt.result, Result.REFUSED, f"the result of {sorted(params)}")
            expect_that(said in receipt.detail, f"expected {said!r} in the detail, saw {receipt.detail!r}")
    _expect_attempts(case, 0)


def _wrong_params(case: Case) -> Iterator[tuple[dict[str, Any], str]]:
    model, right = case.known.action_params, case.example.params
    for name, field in model.model_fields.items():
        if field.is_required():
            said = f'param "{name}" is missing. It is: {field.description}'
            yield {key: value for key, value in right.items() if key != name}, said
            yield right | {name: ""}, said
    for group in model.one_of:
        named = " or ".join(f'"{name}"' for name in group)
        yield {key: value for key, value in right.items() if key not in group}, f"param {named} is missing."
    if model.model_config.get("extra") != "allow":
        yield right | {"colour": "red"}, 'param "colour" is unknown. Allowed: '


# ------------------------------------------------------------------------------------------- what customers type


@promise()
async def it_takes_what_a_customer_types_for_text(case: Case) -> None:
    """Whatever is typed arrives as it was typed and changes nothing else of a request, or is refused unsent."""
    if case.example.has_no_other_side:
        return
    taken = []
    async with case.opened() as connector:
        await connector.send(case.delivery())  # Sessions and tokens are there from now on.
        for place in places(case):
            plain = await _heard_of(case, connector, place, HARMLESS)
            if plain is None:
                continue
            taken.append(place)
            for typed in HOSTILE:
                heard = await _heard_of(case, connector, place, typed)
                for difference in differences(plain, plain if heard is None else heard):
                    raise PromiseBroken(f"{typed!r} in {place} is more than text, {difference}")
    expect_that(bool(taken), "no place of the example takes free text")


async def _heard_of(case: Case, connector: Connector, place: Place, typed: str) -> list[Any] | None:
    """Return what the other side makes of a delivery; None when the connector refused it unsent.

    The other side may refuse what is typed too, where it has a form of its own for a place; it has heard it then.
    """
    case.bench.heard.clear()
    receipt = await connector.send(case.delivery(**place.changes(case, typed)))
    if receipt.result is Result.DELIVERED:
        return as_seen(case, typed)
    refused = receipt.result is Result.REFUSED and bool(receipt.detail)
    expect_that(refused, f"{typed!r} in {place} came to {receipt.result}: {receipt.detail}")
    if typed == HARMLESS:
        return None
    expect_that(
        bool(case.attempts) or receipt.status is None, f"{typed!r} in {place} broke a request: {receipt.detail}"
    )
    return as_seen(case, typed) if case.attempts else None


# ---------------------------------------------------------------------------------------------- check and close


@promise()
async def its_check_is_content_and_delivers_nothing(case: Case) -> None:
    """A system in order is found in order, and nobody receives anything."""
    async with case.opened() as connector:
        expect(connector.name, NAME, "the connector's name")
        expect(await connector.check(), None, "what the check says of a system in order")
    _expect_attempts(case, 0)


@promise(How.GONE)
async def its_check_tells_when_nothing_listens(case: Case) -> None:
    """An unreachable system is told in a sentence that says what to mend."""
    await case.bench.answers(How.GONE)
    _expect_advice(await _advice(case))


@promise(How.BAD_CREDENTIALS)
async def its_check_tells_wrong_credentials(case: Case) -> None:
    """Wrong secrets are told apart from a system that cannot be reached."""
    await case.bench.answers(How.BAD_CREDENTIALS)
    wrong = await _advice(case)
    _expect_advice(wrong)
    if How.GONE not in case.example.cannot:
        await case.bench.answers(How.GONE)
        expect_that(await _advice(case) != wrong, f"the check says the same when nothing listens: {wrong}")


@promise()
async def it_closes_without_a_trace(case: Case) -> None:
    """After ``close``, which may be called twice, every socket is released."""
    before = _sockets()
    async with case.opened() as connector:
        await asyncio.gather(*(connector.send(case.delivery(id=f"id-{number}")) for number in range(5)))
        await connector.close()
    try:
        async with asyncio.timeout(GIVEN_UP_AFTER_S):
            # The other end of each connection may be in this process too, and hears of the end a little later.
            while _sockets() > before:  # noqa: ASYNC110 - the kernel has no event for it.
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise PromiseBroken(f"{_sockets() - before} sockets are still open after close") from None


def _sockets() -> int:
    """Count this process's open sockets."""
    found = 0
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - the names are numbers of descriptors, not paths.
        try:
            found += stat.S_ISSOCK(os.fstat(int(name)).st_mode)
        except OSError:
            continue  # The descriptor that listed the folder.
    return found


# ---------------------------------------------------------------------------------------------------- secrets


@promise()
async def its_secrets_stay_secret(case: Case) -> None:
    """No secret is in what the connector looks like, in a receipt, in advice or in the log, whatever is answered."""
    seen: list[str] = []
    with _whole_log(seen):
        for how in How:
            if how in case.example.cannot:
                continue
            await case.bench.answers(how)
            async with case.opened(**({"timeout_s": TIMEOUT_S} if how is How.HANG else {})) as connector:
                receipt = await connector.send(case.delivery())
                seen += [repr(connector), repr(receipt), str(await connector.check())]
    text = "\n".join(seen)
    for secret in (*case.environ.values(), *case.example.secrets):
        where = text.find(secret)
        expect_that(where < 0, f"a secret leaks: …{text[max(0, where - 80) : where]}[here]")


@contextmanager
def _whole_log(lines: list[str]) -> Iterator[None]:
    """Collect what every logger on the connector's side says, from DEBUG on."""

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if not record.name.startswith("uvicorn"):  # That is the bench, which may know the secret.
                lines.append(self.format(record))

    root, collector = logging.getLogger(), Collector(logging.DEBUG)
    level = root.level
    root.addHandler(collector)
    root.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(collector)


# -------------------------------------------------------------------------------------------------- callbacks


@promise()
async def it_believes_genuine_callbacks_alone(case: Case) -> None:
    """A signed callback is read, the same whenever it is repeated; an unsigned or altered one is refused."""
    if case.known.callbacks is None:
        expect(list(case.example.callbacks), [], "callbacks of a type that reads none")
        return
    expect_that(bool(case.example.callbacks), "the type reads callbacks and its example has none")
    reader = _reader(case, case.environ)
    for genuine in case.example.callbacks:
        reading, again = (reader.read(genuine.callback) for _ in range(2))
        expect(tuple(outcome.type for outcome in reading.outcomes), genuine.outcomes, "the types of its outcomes")
        expect(again, reading, "the same callback read again")
        expect_that(all(outcome.id for outcome in reading.outcomes), "an outcome has no id")
        expect(len({outcome.id for outcome in reading.outcomes}), len(genuine.outcomes), "ids of its outcomes")
        for forged in _forged(genuine.callback):
            try:
                reader.read(forged)
            except CallbackRefused as error:
                expect_that(error.status in {401, 403}, f"a forged callback is refused with {error.status}")
            else:
                raise PromiseBroken(f"a forged callback was believed: {forged}")


def _reader(case: Case, environ: Mapping[str, str]) -> CallbackReader:
    assert case.known.callbacks is not None
    settings = {name: value for name, value in case.settings.items() if name != "type"}
    surroundings = Surroundings(environ=environ, now_s=lambda: NOW_S)
    return case.known.callbacks(NAME, case.known.parameters.model_validate(settings), surroundings)


def _forged(genuine: Callback) -> Iterator[Callback]:
    """Yield it unsigned, and signed but altered."""
    yield replace(genuine, headers={"content-type": genuine.headers.get("content-type", "")})
    yield replace(genuine, body=genuine.body + b" ")


# ---------------------------------------------------------------------------------------------------- details


async def _receipt(case: Case, how: How = How.OK, **changes: Any) -> Receipt:
    await case.bench.answers(how)
    delivery: Delivery = case.delivery(**changes)
    async with case.opened() as connector:
        return await connector.send(delivery)


async def _advice(case: Case) -> str | None:
    async with case.opened() as connector:
        return await connector.check()


def _expect_advice(advice: str | None) -> None:
    expect_that(advice is not None and advice.endswith("."), f"the check's advice is no sentence: {advice!r}")


def _expect_attempts(case: Case, count: int) -> None:
    if not case.example.has_no_other_side:
        expect(len(case.attempts), count, "attempts that the bench heard of")


def _without(value: Any, names: frozenset[str]) -> Any:
    match value:
        case dict():
            return {key: _without(item, names) for key, item in value.items() if key not in names}
        case list():
            return [_without(item, names) for item in value]
        case _:
            return value


PROMISES: tuple[Promise, ...] = (
    it_describes_itself,
    it_refuses_settings_that_it_does_not_have,
    it_does_not_start_without_its_secrets,
    it_delivers_once,
    it_hands_on_why_it_was_refused,
    it_attempts_a_refused_delivery_once,
    it_waits_as_long_as_it_is_asked_to,
    it_may_be_retried_when_the_system_is_broken,
    it_may_be_retried_when_nothing_listens,
    it_does_not_know_what_became_of_a_delivery_without_an_answer,
    it_never_takes_wrong_credentials_for_a_delivery,
    it_passes_the_id_on_and_repeats_itself_to_the_letter,
    it_may_be_called_concurrently,
    it_refuses_wrong_params_unsent,
    it_takes_what_a_customer_types_for_text,
    its_check_is_content_and_delivers_nothing,
    its_check_tells_when_nothing_listens,
    its_check_tells_wrong_credentials,
    it_closes_without_a_trace,
    its_secrets_stay_secret,
    it_believes_genuine_callbacks_alone,
)
