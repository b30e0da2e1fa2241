"""Pages: a list is answered in pieces of bounded size; what goes on has a link to where (RFC 8288).

A page ends at the number that was asked for or at ``PAGE_BYTES_MAX``, whichever comes first; an item that is larger
than that comes alone. ``before`` says where the next one begins: after the last item that was shown, whatever has come
to the list meanwhile, so that nothing is lost between two pages and nothing comes twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Generic, TypeVar

from fastapi import Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from orchestrator.gateway.problem import Problem

PAGE_BYTES_MAX = 1_000_000
V = TypeVar("V", bound=BaseModel)

Before = Annotated[str | None, Query(description="Where the page begins: taken from the Link header of another.")]


@dataclass(frozen=True, slots=True)
class Page(Generic[V]):
    """Items of a list, and where it goes on; None at its end."""

    items: Sequence[V]
    next: str | None = None


@dataclass(slots=True)
class Filling(Generic[V]):
    """A page that is being filled with at most ``limit`` items."""

    limit: int
    items: list[V] = field(default_factory=list)
    size_bytes: int = 0

    @property
    def room_bytes(self) -> int:
        """How much more fits."""
        return max(0, PAGE_BYTES_MAX - self.size_bytes)

    def takes(self, item: V) -> bool:
        """Put an item on the page, or return that it belongs on the next one."""
        size = len(item.model_dump_json()) + 1
        if self.items and (len(self.items) >= self.limit or size > self.room_bytes):
            return False
        self.items.append(item)
        self.size_bytes += size
        return True


async def listed(request: Request, page: Page[V]) -> Response:
    """Return the answer that holds a page; it is made in a thread, so that events do not wait for it."""
    content = await asyncio.to_thread(lambda: b",".join(one.model_dump_json().encode() for one in page.items))
    return Response(b"[" + content + b"]", media_type="application/json", headers=link_to(request, page.next))


def link_to(request: Request, before: str | None) -> dict[str, str]:
    """Return the header that leads to the next page; none at the end of the list."""
    if before is None:
        return {}
    url = request.url.include_query_params(before=before)
    return {"Link": f'<{url.path}?{url.query}>; rel="next"'}


# ------------------------------------------------------------------------------------------------ places


def written_place(ends: Mapping[int, int]) -> str:
    """Return the place in a topic that has been read down to these offsets, by partition."""
    return ".".join(f"{partition}-{offset}" for partition, offset in sorted(ends.items()))


def place_in_topic(before: str | None) -> dict[int, int]:
    """Return the offsets that ``written_place`` wrote; none for the newest. Raise ``Problem`` 400 for anything else."""
    if before is None:
        return {}
    pairs = [one.split("-") for one in before.split(".")]
    if not all(len(pair) == 2 and all(part.isdecimal() and len(part) < 20 for part in pair) for pair in pairs):
        raise unknown_place(before)
    return {int(partition): int(offset) for partition, offset in pairs}


def unknown_place(before: str) -> Problem:
    """Return the problem of a ``before`` that no page led to."""
    return Problem(
        400,
        "invalid_request",
        f"{before[:60]} is not where a page begins.",
        field="before",
        remedy="Follow the Link header of the page before, or leave it out for the newest.",
    )
