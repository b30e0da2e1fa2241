"""A request that a provider makes on its own: built and signed first, then posted or looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from connectors.callback import Callback


@dataclass(frozen=True, slots=True)
class Post:
    """One signed request. ``headers`` are as the provider spells them."""

    url: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def callback(self) -> Callback:
        """The request as whoever listens at ``url`` would hand it to a reader."""
        parts = urlsplit(self.url)
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Callback(method="POST", path=parts.path, query=parts.query, headers=headers, body=self.body)

    async def send(self) -> httpx.Response:
        """Post it and return what was answered."""
        async with httpx.AsyncClient(verify=False, trust_env=False) as client:
            return await client.post(self.url, content=self.body, headers=dict(self.headers))
