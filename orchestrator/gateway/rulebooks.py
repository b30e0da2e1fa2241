"""The routes that publish: plan an edit, put a version on the shelf, put one into force, read one back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response

from orchestrator.core.moment import aware_moment
from orchestrator.errors import RulebookRefused
from orchestrator.gateway.access import CALLER, Caller
from orchestrator.gateway.answer import answered
from orchestrator.gateway.in_flight import Held, InFlight
from orchestrator.gateway.problem import ERRORS_SHOWN_MAX, RULEBOOK_PROBLEM, Problem, ProblemError
from orchestrator.gateway.roles import Role
from orchestrator.gateway.views import RulebookVersion, View, version_view
from orchestrator.rulebook.load import load_rulebook_files
from orchestrator.rulebook.problem import Problem as RuleProblem
from orchestrator.runtime.plan import Plan, Planner
from orchestrator.runtime.rulebooks import PublishedRulebooks
from orchestrator.runtime.shelf import FILES_BYTES_MAX, Published

NowMs = Callable[[], int]
_M = TypeVar("_M", bound=BaseModel)

#: JSON may write one byte of a file as two; what is around the files is little.
BODY_BYTES_MAX = 2 * FILES_BYTES_MAX + 100_000
#: Rulebooks that are read at once. One is worked on, the others wait for their turn; what comes beyond is told to.
AT_ONCE_MAX = 3
#: Body of a request that carries no files.
WORDS_BYTES_MAX = 10_000


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Draft(_Body):
    """The files of a rulebook."""

    files: dict[str, str] = Field(min_length=1, max_length=5_000, description="Text of every file by its path.")

    def encoded(self) -> dict[str, bytes]:
        """Return the files as they are kept."""
        return {path: text.encode() for path, text in self.files.items()}


class Publication(Draft):
    """A rulebook to publish."""

    author: str = Field("", max_length=200, description="Who publishes it.")
    note: str = Field("", max_length=2_000, description="What it changes and why.")
    activate: bool = Field(True, description="False keeps it on the shelf; the version in force stays.")


class Activation(_Body):
    """Who puts a version into force."""

    author: str = Field("", max_length=200, description="Who activates it.")


class VersionView(RulebookVersion):
    """A published version with its files."""

    files: dict[str, str] = Field(description="Text of every file by its path; cases are not kept.")


class ChangeView(View):
    """One thing that an edit adds, removes or changes."""

    kind: str = Field(description="added, removed or changed.")
    noun: str = Field(description="What it is: journey, stage, rule, template, segment, limit set, connector ...")
    name: str = Field(description="Its name.")
    journey: str = Field(description="The journey it belongs to; empty for what is shared.")
    text: str = Field(description="The change in words.")


class ImpactView(View):
    """What is under way in one journey, and what becomes of it."""

    journey: str = Field(description="Id of the journey.")
    on_edit: str = Field(description="Its declaration: pin, follow or migrate.")
    runs: int = Field(description="Open runs.")
    runs_moved: int = Field(description="Runs that migrate to another stage.")
    runs_stranded: int = Field(description="Runs in a stage that is gone: they count as standing before the first.")
    plays: int = Field(description="Open plays.")
    plays_pinned: int = Field(description="Plays that go on with the version that started them.")
    plays_following: int = Field(description="Plays that go on in the new version.")
    plays_ending: int = Field(description="Plays that end, for their step is gone.")
    timers: int = Field(description="Timers set.")
    timers_idle: int = Field(description="Timers of things that are gone: they will do nothing.")


class WarmUpView(View):
    """A count that begins with the publication: unknown of today's customers, for whom the rule is silent by it."""

    rule: str = Field(description="Id of the rule.")
    condition: str = Field(description="What it asks, in words.")
    known_after_ms: int | None = Field(
        description="How long after the publication it is known of today's customers; null when it never is."
    )


class PlanView(View):
    """What publishing a rulebook would change."""

    version: str = Field(description="The version that the files make.")
    against: str = Field(description="The version in force.")
    planned_at: datetime = Field(description="When it was counted.")
    customers: int = Field(description="Customers that were looked at.")
    changes: list[ChangeView] = Field(description="What the edit changes.")
    impacts: list[ImpactView] = Field(description="What is under way, by journey.")
    warm_ups: list[WarmUpView] = Field(description="Counts that begin with the publication, by rule.")


async def _body(request: Request, bytes_max: int, held: Held | None = None) -> bytes:
    """Return the body; what is too large is refused while it arrives."""
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > bytes_max:
            raise Problem(
                413,
                "too_large",
                f"The body has more than {bytes_max} bytes.",
                remedy="Leave out files that are no rules.",
            )
        if held is not None:
            held.add(len(piece))
        pieces.append(piece)
    return b"".join(pieces)


async def _words(request: Request) -> bytes:
    return await _body(request, WORDS_BYTES_MAX)


def _caller(request: Request) -> Caller:
    """Return who the guard has let in."""
    found: Caller = request.scope[CALLER]
    return found


Words = Annotated[bytes, Depends(_words)]
Who = Annotated[Caller, Depends(_caller)]


def _described(model: type[_Body]) -> dict[str, object]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}}


class _Workbench:
    """Where rulebooks are worked on: one after the other, in threads, so that events do not wait for them."""

    def __init__(self) -> None:
        self._in_flight = InFlight(
            AT_ONCE_MAX, AT_ONCE_MAX * BODY_BYTES_MAX, "Send again when another has had its turn."
        )
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def turn(self, request: Request, model: type[_M]) -> AsyncIterator[_M]:
        """Give what the body says, once it is this request's turn. Raise ``Problem`` 400, 413 or 429."""
        with self._in_flight.hold() as held:
            body = await _body(request, BODY_BYTES_MAX, held)
            async with self._turn:
                try:
                    yield await asyncio.to_thread(_read, model, body)
                except RulebookRefused as refused:
                    raise _refused(refused) from refused


def rulebook_router(rulebooks: PublishedRulebooks, planner: Planner, now_ms: NowMs) -> APIRouter:
    """Return the routes over the shelf."""
    router = APIRouter(prefix="/v1/rulebooks", tags=["rulebooks"])
    workbench = _Workbench()

    def shown(published: Published) -> RulebookVersion:
        return version_view(published, active=published.version == rulebooks.current.version)

    @router.post("", status_code=201, summary="Publish a rulebook", openapi_extra=_described(Publication))
    async def publish(request: Request, caller: Who) -> RulebookVersion:
        async with workbench.turn(request, Publication) as asked:
            if asked.activate:
                remedy = "Send activate: false (`journey publish --no-activate`) to publish a draft."
                caller.must(Role.PUBLISHER, remedy)
            return shown(
                await rulebooks.publish(
                    asked.encoded(), author=caller.signed(asked.author), note=asked.note, activate=asked.activate
                )
            )

    @router.post(
        "/plan",
        summary="What publishing would change",
        response_model=PlanView,
        openapi_extra=_described(Draft),
    )
    async def plan(request: Request) -> Response:
        async with workbench.turn(request, Draft) as asked:
            found = await planner.plan(await asyncio.to_thread(load_rulebook_files, asked.encoded()))
            return await answered(lambda: _plan_view(found, now_ms()))

    @router.get("/{version}", summary="A published version with its files", response_model=VersionView)
    async def version(version: str) -> Response:
        published = rulebooks.find(version)
        if published is None:
            raise _unknown(version)

        def view() -> VersionView:
            files = {path: content.decode() for path, content in published.files().items()}
            return VersionView(**shown(published).model_dump(), files=files)

        return await answered(view)

    @router.post("/{version}/activate", summary="Put a version into force", openapi_extra=_described(Activation))
    async def activate(version: str, body: Words, caller: Who) -> RulebookVersion:
        asked = _read(Activation, body or b"{}")
        try:
            published = await rulebooks.activate(version, author=caller.signed(asked.author))
        except RulebookRefused as refused:
            raise _refused(refused) from refused
        if published is None:
            raise _unknown(version)
        return shown(published)

    return router


def _plan_view(found: Plan, planned_at_ms: int) -> PlanView:
    return PlanView(
        version=found.version,
        against=found.against,
        planned_at=aware_moment(planned_at_ms),
        customers=found.customers,
        changes=[
            ChangeView(kind=one.kind, noun=one.noun, name=one.name, journey=one.journey, text=str(one))
            for one in found.changes
        ],
        impacts=[ImpactView.model_validate(one, from_attributes=True) for one in found.impacts],
        warm_ups=[WarmUpView.model_validate(one, from_attributes=True) for one in found.warm_ups],
    )


def _read(model: type[_M], body: bytes) -> _M:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise Problem(400, "invalid_request", f"{field}: {first['msg']}.".lstrip(": "), field=field) from error


def _unknown(version: str) -> Problem:
    return Problem(
        404,
        "unknown_version",
        f'The version "{version}" was never published.',
        remedy="GET /v1/rulebooks lists those that were.",
    )


def _refused(refused: RulebookRefused) -> Problem:
    """Return the problem of a rulebook that may not come into force: every fault with its file and line."""
    problems = [one for one in refused.problems if isinstance(one, RuleProblem)]
    if not problems:
        return Problem(400, "rulebook_refused", str(refused))
    number = f"{len(problems)} problem{'' if len(problems) == 1 else 's'}"
    return Problem(
        400,
        "rulebook_refused",
        f"The rulebook has {number}; the version in force stays.",
        remedy="Mend what errors names; `journey lint` finds the same.",
        errors=[
            ProblemError(index, RULEBOOK_PROBLEM, f"{one.file}:{one.line}", ": ".join([*one.trail, one.message]), "")
            for index, one in enumerate(problems[:ERRORS_SHOWN_MAX])
        ],
    )
