"""Access: who is calling, and whether they may. Decided before a byte of the body is read."""

from __future__ import annotations

import binascii
import math
from base64 import b64decode
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_address

from connectors.hosts import Hosts
from orchestrator import metrics
from orchestrator.errors import ConfigurationError
from orchestrator.gateway.keys import Key, KeyRing
from orchestrator.gateway.origins import Headers, of_another_origin, refuse_foreign_page
from orchestrator.gateway.problem import Problem
from orchestrator.gateway.rate import TokenBucket
from orchestrator.gateway.roles import EVERYTHING, Role
from orchestrator.runtime.ports import ANONYMOUS, Clock
from orchestrator.settings import Settings

#: Where a request's scope says who is calling.
CALLER = "journey.caller"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request: the name of the key ('' without keys), what it may do, and for which pages."""

    name: str
    roles: frozenset[Role]
    bucket: TokenBucket | None = None
    origins: frozenset[str] = frozenset()

    def must(self, role: Role, remedy: str = "") -> None:
        """Raise ``Problem`` 403 unless the caller has the role."""
        if role not in self.roles:
            has = ", ".join(sorted(one.value for one in self.roles))
            raise _forbidden(
                "role",
                "role_missing",
                f'The key "{self.name}" may not do this: it needs the role {role.value} and has {has}.',
                remedy or f"Use a key with the role {role.value}; `journey keys create --role {role.value}` makes one.",
            )

    @property
    def vouches_as(self) -> str:
        """Who vouches that two known people are one when the caller says so; '' for a caller who may not say it."""
        return (self.name or "anybody") if Role.OPERATOR in self.roles else ""

    def take(self, number: int) -> None:
        """Count ``number`` events against the key's rate; raise ``Problem`` 429 when they are too many now."""
        if self.bucket is not None:
            self._within(self.bucket.take(number))

    def within_rate(self) -> None:
        """Raise ``Problem`` 429 when not even one event could be sent now; counts nothing."""
        if self.bucket is not None:
            self._within(self.bucket.wait_s())

    @property
    def producer(self) -> str:
        """Whom the records of what the caller sends are from."""
        return self.name or ANONYMOUS

    def signed(self, author: str) -> str:
        """Return what a record names as its author: what the caller says, and the key that vouches for it."""
        if not self.name:
            return author
        return f"{author} (key {self.name})" if author else f"key {self.name}"

    def _within(self, wait_s: float) -> None:
        if wait_s > 0:
            metrics.KEY_REFUSALS.labels("rate").inc()
            raise Problem(
                429,
                "rate_exceeded",
                f'The key "{self.name}" has sent as much as it may for now.',
                remedy="Send again after Retry-After; nothing of this request was taken.",
                headers={"Retry-After": str(math.ceil(wait_s))},
            )


#: Whoever calls a gateway that has no keys.
ANYBODY = Caller("", EVERYTHING)


class Access:
    """Tells callers by their key, sent as basic-auth user (as Segment libraries send it) or as bearer token.

    Without keys everyone may do everything, under a name that is the gateway's own. A browser may do it only from pages
    of this gateway: others could use the reach, or the remembered key, of whoever looks at them. Events it may also
    send from pages whose origin the key names, or ``origins``, which hold for every caller.
    """

    def __init__(
        self, keys: KeyRing, workspace: str, clock: Clock, hosts: Hosts, origins: Collection[str] = ()
    ) -> None:
        self._keys = keys
        self._workspace = workspace
        self._clock = clock
        self._hosts = hosts
        self._origins = frozenset(origins)

    @classmethod
    def of(cls, settings: Settings, clock: Clock) -> Access:
        """Return the access that the settings describe."""
        hosts = Hosts((settings.host, *settings.host_names))
        return cls(KeyRing.of(settings), settings.workspace, clock, hosts, settings.allowed_origins)

    def origins(self) -> frozenset[str]:
        """Return the origins that some caller may send events for: a preflight carries no key."""
        return self._origins | self._keys.origins()

    def check(self, headers: Headers, role: Role) -> Caller:
        """Return the caller, or raise ``Problem``: 401 for who it is, 403 for what it may. Names are in lower case."""
        self.refuse_other_names(headers)
        if role is not Role.WRITE and of_another_origin(headers):
            raise _forbidden(
                "origin", "other_origin", "A page of another origin may not do this.", "Call from your own server."
            )
        caller = self._caller(headers)
        caller.must(role)
        if role is Role.WRITE:
            self._refuse_foreign_page(headers, caller)
        return caller

    def _refuse_foreign_page(self, headers: Headers, caller: Caller) -> None:
        try:
            refuse_foreign_page(headers, self._origins | caller.origins)
        except Problem:
            metrics.KEY_REFUSALS.labels("origin").inc()
            raise

    def _caller(self, headers: Headers) -> Caller:
        if not self._keys.needed:
            return ANYBODY
        value = headers.get(b"authorization")
        if value is None:
            raise _unauthorised("missing", "A key is needed.", "Send the key as basic-auth user or bearer token.")
        sent = _sent_key(value)
        key = self._keys.find(sent) if sent else None
        if key is None:
            raise _unauthorised(
                "unknown", "The key is not known.", "Compare it with the one you were given, or have another made."
            )
        self._refuse_ended(key)
        return Caller(key.name, key.roles, key.bucket, key.origins)

    def _refuse_ended(self, key: Key) -> None:
        if key.expires_at_ms is not None and self._clock.now_ms() >= key.expires_at_ms:
            raise _unauthorised(
                "expired", f'The key "{key.name}" has expired.', "Have another made with `journey keys create`."
            )
        if key.workspace not in {None, self._workspace}:
            raise _forbidden(
                "workspace",
                "other_workspace",
                f'The key "{key.name}" is not for this workspace.',
                "Send to the gateway of the key's workspace.",
            )

    def refuse_other_names(self, headers: Headers) -> None:
        """Refuse, without keys, what came under a name that somebody may have bent to this machine.

        Nothing else of a request tells: to plain HTTP a browser sends no Sec-Fetch-Site, and with a GET no Origin.
        """
        if not self._keys.needed and not self._hosts.include(headers.get(b"host", b"").decode("latin-1")):
            raise _forbidden(
                "origin",
                "unknown_host",
                "A gateway without keys answers to IP addresses, localhost and the names that it was given; the Host "
                "header has another.",
                "Call it by its address, name the host in JOURNEY_HOST_NAMES, or make keys.",
            )


def refuse_exposure(settings: Settings) -> None:
    """Raise ``ConfigurationError`` when other machines could call and nothing would tell them apart."""
    if settings.write_keys or settings.keys_file or settings.allow_anonymous or is_loopback(settings.host):
        return
    raise ConfigurationError(
        f"Serving on {settings.host} without keys would let in everybody who reaches this machine. "
        "Make a key with `journey keys create --role write --name NAME --file keys.yaml` and set "
        "JOURNEY_KEYS_FILE=keys.yaml; or bind to 127.0.0.1; or, where the network itself keeps others out, set "
        "JOURNEY_ALLOW_ANONYMOUS=true."
    )


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server that is bound to ``host``."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _sent_key(value: bytes) -> bytes:
    scheme, _, credentials = value.partition(b" ")
    match scheme.lower():
        case b"bearer":
            return credentials.strip()
        case b"basic":
            try:
                return b64decode(credentials.strip(), validate=True).partition(b":")[0]
            except binascii.Error:
                return b""
        case _:
            return b""


def _unauthorised(reason: str, detail: str, remedy: str) -> Problem:
    metrics.KEY_REFUSALS.labels(reason).inc()
    return Problem(
        401,
        "unauthorised",
        detail,
        remedy=remedy,
        headers={"WWW-Authenticate": 'Basic realm="journey", charset="UTF-8"'},
    )


def _forbidden(reason: str, code: str, detail: str, remedy: str) -> Problem:
    metrics.KEY_REFUSALS.labels(reason).inc()
    return Problem(403, code, detail, remedy=remedy)
