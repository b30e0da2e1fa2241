"""Keys: made of 256 random bits, kept as their hash, told apart by it.

A plain SHA-256 is the right hash here: a slow one (bcrypt, argon2) protects words that people choose, which can be
guessed; 256 random bits cannot be, however fast the guesser, and every request would pay for the slowness. A key is
found by its hash, so how long the search takes says nothing about the keys that there are.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hmac import compare_digest
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import yaml
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from orchestrator import metrics
from orchestrator.errors import ConfigurationError
from orchestrator.gateway.rate import Rate, TokenBucket
from orchestrator.gateway.roles import Role, with_implied
from orchestrator.settings import WORKSPACE, Origin, Settings

log = logging.getLogger(__name__)

#: What our keys begin with, so that scanners of repositories and logs know them.
PREFIX = "jrn_"
HASH = r"sha256:[0-9a-f]{64}"
#: How long an edit of the key file may go unseen.
POLL_S = 1.0
#: The parser in C is ten times as fast, and events wait for it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_HEADER = (
    "# Keys of the gateway, as hashes. `journey keys` writes this file; the gateway reads it again when it changes.\n"
)


def new_key() -> str:
    """Return a new key; whoever gets it must keep it, for only its hash is kept here."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_of(key: bytes) -> str:
    """Return what is kept of a key."""
    return f"sha256:{hashlib.sha256(key).hexdigest()}"


class KeyRate(BaseModel):
    """How much a key may send, per gateway process."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    events_per_s: float = Field(gt=0, le=1_000_000, description="Events a second on average.")
    burst: float = Field(ge=1, le=10_000_000, description="Events at once.")


class KeyEntry(BaseModel):
    """One key of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$", description="Who has it; stands in logs.")
    roles: tuple[Role, ...] = Field(min_length=1, description="What it may do: write, viewer, author ...")
    hash: Annotated[str, Field(pattern=f"^{HASH}$", description="sha256: and the hash in hexadecimal.")]
    workspace: str | None = Field(None, pattern=WORKSPACE, description="The only workspace it opens; any when absent.")
    rate: KeyRate | None = Field(None, description="How much it may send; without limit when absent.")
    expires_at: AwareDatetime | None = Field(None, description="When it ends; never when absent.")
    origins: tuple[Origin, ...] = Field(
        (), description="Pages that may send events with it from a browser: https://shop.example. None when absent."
    )

    @field_validator("origins")
    @classmethod
    def _sends_events(cls, origins: tuple[Origin, ...], entry: ValidationInfo) -> tuple[Origin, ...]:
        if origins and Role.WRITE not in entry.data.get("roles", ()):
            raise ValueError("origins are of pages that send events: the key needs the role write for it")
        return origins


class KeyFile(BaseModel):
    """The file of keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: tuple[KeyEntry, ...] = Field(description="The keys; none opens the gateway to nobody.")

    @model_validator(mode="after")
    def _unique(self) -> KeyFile:
        for what in ("name", "hash"):
            seen = Counter(getattr(key, what) for key in self.keys)
            if twice := next((value for value, number in seen.items() if number > 1), None):
                raise ValueError(f'two keys have the {what} "{twice}"')
        return self


def read_keys(path: Path) -> KeyFile:
    """Return what the file holds; raise ``ConfigurationError`` that names the place and the remedy."""
    try:
        return KeyFile.model_validate(yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER))
    except OSError as error:
        raise ConfigurationError(
            f"The key file {path} cannot be read ({error.strerror}). Make one with `journey keys create`, "
            "or correct JOURNEY_KEYS_FILE."
        ) from None
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}".lstrip(": ") for one in error.errors()]
        raise ConfigurationError(f"The key file {path} is wrong.\n" + "\n".join(faults)) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # A date that is none, and what nests too deeply.
        # The parser's own message would quote the file.
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigurationError(f"The key file {path}{where} is not YAML.") from None


def write_keys(path: Path, keys: KeyFile) -> None:
    """Put the file in place as a whole, readable by its owner only."""
    entries = [_written(entry) for entry in keys.keys]
    text = _HEADER + yaml.safe_dump({"keys": entries}, sort_keys=False)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink()
        raise ConfigurationError(f"The key file {path} cannot be written: {error.strerror}.") from error


def _written(entry: KeyEntry) -> dict[str, Any]:
    return entry.model_dump(mode="json", exclude_defaults=True)


@dataclass(frozen=True, slots=True)
class Key:
    """A key as the gateway knows it; ``roles`` with those they imply."""

    name: str
    hash: str
    roles: frozenset[Role]
    workspace: str | None = None
    expires_at_ms: int | None = None
    bucket: TokenBucket | None = None
    origins: frozenset[str] = frozenset()


class KeyRing:
    """The keys in force: those of ``JOURNEY_WRITE_KEYS`` and those of the key file.

    The file is looked at again at most every ``POLL_S``, when a key is asked for. A file that cannot be read any more
    leaves the keys as they were, says so in the log and counts; at the start it raises ``ConfigurationError``.
    """

    def __init__(
        self, plain: Sequence[SecretStr] = (), file: Path | None = None, *, now_s: Callable[[], float] = monotonic
    ) -> None:
        self.needed = bool(plain) or file is not None
        self._fixed = [_plain_key(number, key) for number, key in enumerate(plain, start=1)]
        self._file = file
        self._now_s = now_s
        self._seen: object = None
        self._looked_at_s = now_s()
        self._keys: Mapping[str, Key] = _by_hash(self._fixed)
        self._origins: frozenset[str] = frozenset()
        if file is not None:
            self._seen = _signature(file)
            self._take(read_keys(file))

    @classmethod
    def of(cls, settings: Settings) -> KeyRing:
        """Return the keys that the settings name."""
        return cls(settings.write_keys, settings.keys_file)

    def find(self, sent: bytes) -> Key | None:
        """Return the key that was sent, None when it is not one of ours."""
        self._look_again()
        wanted = hash_of(sent)
        found = self._keys.get(wanted)
        return found if found is not None and compare_digest(found.hash, wanted) else None

    def origins(self) -> frozenset[str]:
        """Return the origins that one of the keys names."""
        self._look_again()
        return self._origins

    def _look_again(self) -> None:
        if self._file is None or self._now_s() - self._looked_at_s < POLL_S:
            return
        self._looked_at_s = self._now_s()
        signature = _signature(self._file)
        if signature == self._seen:
            return
        self._seen = signature
        try:
            self._take(read_keys(self._file))
        except ConfigurationError as error:
            metrics.KEY_FILE_BROKEN.set(1)
            log.error("the keys stay as they were: %s", error)
            return
        log.info("%d keys are in force", len(self._keys))

    def _take(self, file: KeyFile) -> None:
        # A key whose rate has not changed goes on with its bucket: a reload is no fresh allowance.
        buckets = {key.name: key.bucket for key in self._keys.values()}
        self._keys = _by_hash([*self._fixed, *(_key(entry, buckets.get(entry.name)) for entry in file.keys)])
        self._origins = frozenset(origin for key in self._keys.values() for origin in key.origins)
        metrics.KEY_FILE_BROKEN.set(0)


def _by_hash(keys: Iterable[Key]) -> dict[str, Key]:
    return {key.hash: key for key in keys}


def _key(entry: KeyEntry, bucket: TokenBucket | None) -> Key:
    rate = None if entry.rate is None else Rate(entry.rate.events_per_s, entry.rate.burst)
    if rate is None:
        bucket = None
    elif bucket is None or bucket.rate != rate:
        bucket = TokenBucket(rate)
    return Key(
        name=entry.name,
        hash=entry.hash,
        roles=with_implied(entry.roles),
        workspace=entry.workspace,
        expires_at_ms=None if entry.expires_at is None else round(entry.expires_at.timestamp() * 1000),
        bucket=bucket,
        origins=frozenset(entry.origins),
    )


def _plain_key(number: int, key: SecretStr) -> Key:
    value = key.get_secret_value()
    if value.startswith("sha256:"):
        if not re.fullmatch(HASH, value):
            raise ConfigurationError(
                f"JOURNEY_WRITE_KEYS, key {number}: after sha256: stand 64 hexadecimal digits in lower case. "
                "`journey keys create` makes them."
            )
        return Key(f"write-key-{number}", value, frozenset({Role.WRITE}))
    if not value:
        raise ConfigurationError(f"JOURNEY_WRITE_KEYS, key {number} is empty; leave it out.")
    return Key(f"write-key-{number}", hash_of(value.encode()), frozenset({Role.WRITE}))


def _signature(path: Path) -> object:
    """Return what changes when the file does; a mounted secret changes by the link that it is."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)
