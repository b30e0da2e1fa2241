"""Chance without randomness: hashes of ids, so that a replay draws the same lots.

blake2b, not crc32: with crc32 two splits with different salts put every customer into the same arm of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b


def lot(*identity: str) -> float:
    """Return a number in [0, 1) that depends on ``identity`` alone, evenly spread and independent per part."""
    digest = blake2b("\x1f".join(identity).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def choose_arm(split: str, customer_id: str, arms: Sequence[tuple[str, float]]) -> str:
    """Return the arm of ``split`` for a customer: sticky, stateless, independent between experiments."""
    drawn = lot(split, customer_id) * sum(percent for _, percent in arms)
    for arm, percent in arms:
        drawn -= percent
        if drawn < 0:
            return arm
    return arms[-1][0]
