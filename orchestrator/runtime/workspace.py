"""Workspaces on shared topics: which records are whose.

The record key of a customer is ``workspace:customer_id``, and the bare ``customer_id`` in the workspace "default". A
workspace leaves alone what lies in the key space of another and refuses what lies in nobody's, so that a producer
with a wrong key hears of it. Only "default" has to be told which other names there are, for its customers' ids may
begin like anything.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from orchestrator.runtime.ports import Record

DEFAULT_WORKSPACE = "default"
_PREFIX = re.compile(rb"[a-z0-9][a-z0-9_-]{0,31}:")


class KeySpace:
    """The record keys of one workspace. ``neighbours`` are other workspaces on the same topics."""

    def __init__(self, workspace: str, neighbours: Collection[str] = ()) -> None:
        self.workspace = workspace
        self._prefix = b"" if workspace == DEFAULT_WORKSPACE else _prefix_of(workspace)
        self._beside_default = DEFAULT_WORKSPACE in neighbours
        self._neighbours = tuple(_prefix_of(one) for one in sorted({*neighbours} - {workspace, DEFAULT_WORKSPACE}))
        #: Whether records of others may lie between ours.
        self.shared = bool(self._prefix) or bool(neighbours)

    def key(self, customer_id: str) -> bytes:
        """Return the record key of a customer."""
        return self._prefix + customer_id.encode()

    def foreign(self, key: bytes | None) -> bool:
        """Return whether a record under ``key`` is another workspace's; what is nobody's is not."""
        if not self.shared or key is None:
            return False
        if not self._prefix:
            return key.startswith(self._neighbours)
        if key.startswith(self._prefix):
            return False
        return self._beside_default or _PREFIX.match(key) is not None

    def encroaching(self, customer_id: str) -> str:
        """Return the workspace whose key space the id of a customer of ours would lie in, '' when there is none."""
        if self._prefix or not self._neighbours:
            return ""
        key = customer_id.encode()
        return next((one[:-1].decode() for one in self._neighbours if key.startswith(one)), "")

    def own(self, records: Sequence[Record]) -> list[Record]:
        """Return the records that are not another workspace's."""
        return [record for record in records if not self.foreign(record.key)]


def _prefix_of(workspace: str) -> bytes:
    return workspace.encode() + b":"
