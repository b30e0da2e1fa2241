"""Canonical forms: what makes two primitives the same, so that rules share their state and a reload keeps it."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from enum import Enum
from hashlib import blake2b
from typing import Any


def canonical(value: Any) -> Any:
    """Return a JSON value that is equal for equal definitions and differs for different ones."""
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return [type(value).__name__, *(canonical(getattr(value, one.name)) for one in fields(value))]
    if isinstance(value, (tuple, list)):
        return [canonical(item) for item in value]
    return value


def canonical_name(*parts: Any) -> str:
    """Return the name of a primitive: twelve hexadecimal digits of the hash of its canonical form."""
    form = json.dumps(canonical(parts), separators=(",", ":"), ensure_ascii=False, sort_keys=True)
    return blake2b(form.encode(), digest_size=6).hexdigest()
