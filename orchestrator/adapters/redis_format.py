"""In which format a workspace's keys in Redis are: states, queues, ledgers, timelines, and what is encoded in them.

Format 1 is the first that has a number; keys from shortly before it, which have none, are the same. Within a format
keys and fields are only added. Whoever changes what is there already raises ``FORMAT``.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from orchestrator.adapters.redis_round_trip import Client, translated
from orchestrator.errors import ConfigurationError, StoreUnavailable

log = logging.getLogger(__name__)

FORMAT = 1
_RETRY_S = 1.0


async def check_format(client: Client, workspace: str) -> None:
    """Note the format where none is noted; raise ``ConfigurationError`` for another one than this engine's.

    Waits for a Redis that does not answer.
    """
    key = f"{{journey:{workspace}:format}}"
    while True:
        try:
            with translated():
                await client.set(key, str(FORMAT), nx=True)
                found: Any = await client.get(key)
            break
        except StoreUnavailable as error:
            log.warning("waiting for the store: %s", error)
            await asyncio.sleep(_RETRY_S)
    if found != str(FORMAT).encode():
        raise ConfigurationError(
            f'Redis holds the workspace "{workspace}" in the format {found.decode(errors="replace")}, but this version '
            f"of the engine knows {FORMAT}. Start the version that wrote it, or name another Redis with "
            "JOURNEY_REDIS_URL."
        )
