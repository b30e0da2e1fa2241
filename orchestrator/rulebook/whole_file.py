"""Files that are written as a whole: whoever stops the writer, or reads meanwhile, finds the old one or the new one."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile


def write_whole(path: Path, content: bytes) -> None:
    """Put a file in place, with the permissions of the one that it takes the place of. Raises ``OSError``."""
    target = path.resolve()  # What a link points to is written, and the link stays.
    if target.exists() and not target.is_file():
        target.write_bytes(content)  # A pipe or a device takes what it is given.
        return
    with NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
        fresh = Path(file.name)
        try:
            file.write(content)
            file.close()
            if target.exists():
                shutil.copymode(target, fresh)
            else:
                fresh.chmod(0o644)
            fresh.replace(target)
        except BaseException:
            with suppress(OSError):
                fresh.unlink()
            raise
