"""The journal of an import: how far a file was sent, so that the same command goes on where it was.

It lies beside the file, one for each gateway, and is written anew after every batch, as a whole: a process may be
killed at any moment. What it says is true of the file whose lines up to there have its digest; more may follow below.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import xxhash

from orchestrator.errors import ConfigurationError, EventRefused
from orchestrator.rulebook.whole_file import write_whole


class Reached(msgspec.Struct, frozen=True):
    """How far an import came: ``digest`` is that of what was read, ``refused_bytes`` the size of the refused rows."""

    rows: int = 0
    line: int = 0
    digest: str = ""
    accepted: int = 0
    refused: int = 0
    refused_bytes: int = 0


class Journal:
    """The journal of one file and one gateway. ``path`` None keeps none: standard input cannot be read twice."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    @classmethod
    def beside(cls, file: Path, url: str) -> Journal:
        """Return the journal of sending a file to a gateway."""
        return cls(file.with_name(f".{file.name}.{xxhash.xxh3_64_hexdigest(url.rstrip('/').encode())[:8]}.sending"))

    def read(self) -> Reached:
        """Return how far the import came; one that has not begun came nowhere."""
        if self.path is None or not self.path.exists():
            return Reached()
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Reached)
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigurationError(
                f"Cannot read {self.path}, which says how far this file was sent: {error}. "
                "Send it from its beginning with --restart."
            ) from error

    def write(self, reached: Reached) -> None:
        """Keep how far the import is."""
        if self.path is None:
            return
        try:
            write_whole(self.path, msgspec.json.encode(reached))
        except OSError as error:
            raise ConfigurationError(
                f"Cannot write {self.path}, which says how far this file was sent: {error}. "
                "Copy the file to a folder that may be written to, or send it through standard input."
            ) from error

    def remove(self) -> None:
        """Forget the import: it is over, or begins anew."""
        if self.path is not None:
            with suppress(FileNotFoundError):
                self.path.unlink()


class RefusedRows:
    """The file of the rows that were refused: a JSON object a row, with its line, the reason, and what it says."""

    def __init__(self, file: Path) -> None:
        self.path = file.with_name(f"{file.name}.refused.jsonl")

    def begin(self, size_bytes: int) -> None:
        """Keep what an interrupted import wrote up to its last journal, and nothing of an earlier one."""
        if not size_bytes:
            with suppress(FileNotFoundError):
                self.path.unlink()
        elif self.path.exists():
            with self.path.open("r+b") as file:
                file.truncate(size_bytes)

    def add(self, rows: list[tuple[int, EventRefused, Any]]) -> int:
        """Add rows as (line, why, what it says); return the size of the file."""
        lines = [
            msgspec.json.encode(
                {
                    "line": line,
                    "code": refused.code,
                    "field": refused.field,
                    "reason": str(refused),
                    "remedy": refused.remedy,
                    "row": row,
                }
            )
            for line, refused, row in rows
        ]
        with self.path.open("ab") as file:
            file.write(b"".join(line + b"\n" for line in lines))
            return file.tell()
