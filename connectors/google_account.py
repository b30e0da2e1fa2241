"""Google's service accounts: a key in the environment, and the access tokens that it is exchanged for.

The exchange is the JWT bearer grant (RFC 7523). PyJWT signs; google-auth would bring a second HTTP client and a
blocking one at that.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from connectors.connector_type import Surroundings, environment_value
from connectors.errors import ConnectorMisconfigured, Problem, model_problems
from connectors.http import HttpAnswer, HttpSender, HttpUrl, answer_receipt
from connectors.protocol import Receipt, Result

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ASSERTION_LIFE_S = 3_600
#: A token is renewed this long before it ends, so that none ends on its way.
RENEW_BEFORE_S = 300
_REMEDY = "Make a key of the service account in the Google Cloud console and set the variable to it or to its path."


class _KeyFile(BaseModel):
    """The parts of a service account's key file that are used here."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    client_email: str = Field(min_length=3, description="The account's name.")
    private_key: str = Field(min_length=1, repr=False, description="The account's private key, PEM.")
    private_key_id: str = Field("", description="Which of the account's keys it is.")
    project_id: str = Field("", description="The project that the account belongs to.")
    token_uri: HttpUrl = Field("https://oauth2.googleapis.com/token", description="Where tokens are issued.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccount:
    """A service account that can sign."""

    email: str
    project: str
    token_uri: str
    key_id: str
    key: RSAPrivateKey = field(repr=False)

    def assertion(self, scope: str, now_s: float) -> str:
        """Return the signed statement that asks for a token of ``scope``."""
        import jwt  # noqa: PLC0415 - it takes long to load, and only who sends notifications needs it.

        claims = {
            "iss": self.email,
            "scope": scope,
            "aud": self.token_uri,
            "iat": int(now_s),
            "exp": int(now_s) + ASSERTION_LIFE_S,
        }
        return jwt.encode(claims, self.key, algorithm="RS256", headers={"kid": self.key_id} if self.key_id else None)


def service_account(connector: str, setting: str, variable: str, surroundings: Surroundings) -> ServiceAccount:
    """Return the account whose key file the variable holds or names; raise ``ConnectorMisconfigured`` otherwise."""
    value = environment_value(connector, setting, variable, surroundings)

    def refused(said: str) -> ConnectorMisconfigured:
        message = f'setting "{setting}": {said} (in the environment variable "{variable}")'
        return ConnectorMisconfigured(connector, [Problem(setting, message, _REMEDY)])

    try:
        text = value if value.startswith("{") else Path(value).read_text("utf-8")
        written = _KeyFile.model_validate(json.loads(text))
        key = _rsa_key(written.private_key)
    except OSError as error:
        raise refused(f"the key file cannot be read: {error.strerror}") from None
    except ValidationError as error:
        said = "; ".join(problem.message for problem in model_problems(_KeyFile, error, "field"))
        raise refused(f"the key is not one of a service account: {said}") from None
    except json.JSONDecodeError as error:
        raise refused(f"the key is not JSON: {error}") from None
    if key is None:
        raise refused('the key\'s "private_key" is not an RSA key in PEM form')
    return ServiceAccount(
        email=written.client_email,
        project=written.project_id,
        token_uri=written.token_uri,
        key_id=written.private_key_id,
        key=key,
    )


def _rsa_key(text: str) -> RSAPrivateKey | None:
    """Return the key in ``text``; None when it is none, since the library's own words may quote it."""
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - they take long to load.
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        key = load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, RSAPrivateKey) else None


class AccessTokens:
    """Holds the current access token of ``account``; whoever needs one while it is fetched waits for the same fetch."""

    def __init__(self, account: ServiceAccount, scope: str, sender: HttpSender, now_s: Callable[[], float]) -> None:
        self._account = account
        self._scope = scope
        self._sender = sender
        self._now_s = now_s
        self._token = ""
        self._renew_at_s = 0.0
        self._fetch: asyncio.Task[str | Receipt] | None = None

    async def current(self, refused: str = "") -> str | Receipt:
        """Return a token, or the receipt of an attempt that could get none: nothing was sent, so never UNKNOWN.

        A token that the other side has ``refused`` is not returned again.
        """
        if self._token and self._token != refused and self._now_s() < self._renew_at_s:
            return self._token
        if self._fetch is None:
            self._fetch = asyncio.create_task(self._fetched())
            self._fetch.add_done_callback(self._forget)
        # Whoever gives up must not take the token from the others who wait for it.
        return await asyncio.shield(self._fetch)

    async def close(self) -> None:
        """End a fetch that is under way."""
        if self._fetch is not None:
            self._fetch.cancel()
            await asyncio.wait([self._fetch])

    def _forget(self, _done: asyncio.Task[str | Receipt]) -> None:
        self._fetch = None

    async def _fetched(self) -> str | Receipt:
        assertion = self._account.assertion(self._scope, self._now_s())
        body = urlencode({"grant_type": JWT_BEARER, "assertion": assertion}).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        asked_at_s = self._now_s()
        answer = await self._sender.ask("POST", self._account.token_uri, body=body, headers=headers)
        if isinstance(answer, Receipt):
            result = Result.RETRY if answer.result is Result.UNKNOWN else answer.result
            return Receipt(result=result, detail=f"no access token: {answer.detail}")
        granted = _granted(answer)
        if granted is None:
            receipt = answer_receipt(answer.status, answer.headers, answer.body, asked_at_s)
            return Receipt(
                # An answer that is well and grants nothing is the issuer's fault, and may pass.
                result=Result.REFUSED if receipt.result is Result.REFUSED else Result.RETRY,
                status=answer.status,
                detail=f"no access token: {answer.body.decode('utf-8', 'replace')[:400]}",
                retry_after_s=receipt.retry_after_s,
            )
        self._token, life_s = granted
        self._renew_at_s = asked_at_s + life_s - min(RENEW_BEFORE_S, life_s / 2)
        return self._token


def _granted(answer: HttpAnswer) -> tuple[str, float] | None:
    """Return the token and its life in seconds, where the answer grants one."""
    try:
        content = answer.json_object()
        token, life_s = content["access_token"], float(content.get("expires_in", ASSERTION_LIFE_S))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    granted = answer.status == 200 and isinstance(token, str) and token != "" and math.isfinite(life_s)
    return (token, life_s) if granted else None
