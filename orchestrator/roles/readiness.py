"""Readiness of the distributed roles: they have begun, and what they write to takes a write."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

Question = Callable[[], Awaitable[str | None]]


def once_begun(begun: Callable[[], bool], store: Question) -> Question:
    """Return what asks for an obstacle: the role has not begun, or its store takes no write."""

    async def obstacle() -> str | None:
        return await store() if begun() else "not ready yet"

    return obstacle
