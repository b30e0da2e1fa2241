"""Whether Redis takes a write now: found out by writing. One that is full, or whose disk is, still answers reads."""

from __future__ import annotations

from orchestrator.adapters.redis_round_trip import Client, translated
from orchestrator.errors import StoreUnavailable

#: What is written goes by itself.
_KEPT_S = 60


class RedisProbe:
    """Asks a Redis, or that node of a cluster that holds the probe's key."""

    def __init__(self, client: Client, workspace: str) -> None:
        self._client = client
        self._key = f"{{journey:{workspace}:probe}}"

    async def obstacle(self) -> str | None:
        """Return why Redis takes no write, or None."""
        try:
            with translated():
                await self._client.set(self._key, b"", ex=_KEPT_S)
        except StoreUnavailable as error:
            return f"Nothing can be written to the store: {error}. Make room for it, or mend what is named."
        return None
