"""The contact book in memory: for simulation and tests."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import msgspec

from orchestrator.runtime.contacts import KEY_BYTES, Contact, hashed


class MemoryContactBook:
    """``ContactBook`` over a dictionary."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(KEY_BYTES)
        self._contacts: dict[bytes, Contact] = {}

    async def remember(self, contacts: Sequence[Contact]) -> None:
        """Keep contacts; the newer counts."""
        for contact in contacts:
            place = hashed(self._key, contact.connector, contact.address)
            known = self._contacts.get(place)
            if known is None or known.at_ms <= contact.at_ms:
                self._contacts[place] = msgspec.structs.replace(contact, address="")

    async def find(self, connector: str, address: str) -> Contact | None:
        """Return the newest contact there, or None."""
        found = self._contacts.get(hashed(self._key, connector, address))
        return None if found is None else msgspec.structs.replace(found, address=address)

    async def forget(self, customer_id: str) -> None:
        """Forget every contact of a customer."""
        self._contacts = {place: one for place, one in self._contacts.items() if one.customer_id != customer_id}
