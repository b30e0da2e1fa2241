"""Firebase Cloud Messaging and Google's token endpoint, as they answer: grants verified, messages checked and kept.

``POST /token`` (the JWT bearer grant) · ``POST /v1/projects/{project}/messages:send``
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_LIFE_S = 3_599
_ERROR_TYPE = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
_BAD_REQUEST_TYPE = "type.googleapis.com/google.rpc.BadRequest"
_STATUSES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
_PARTS = {"token", "topic", "condition", "notification", "data", "android", "apns", "webpush", "fcm_options", "name"}
_NOTIFICATION = {"title", "body", "image"}


def fcm_error(status: int, message: str, *, code: str = "", field_name: str = "", name: str = "") -> dict[str, Any]:
    """Return an error body in Google's form; ``code`` is Firebase's own, ``name`` the general one."""
    details: list[dict[str, Any]] = [{"@type": _ERROR_TYPE, "errorCode": code}] if code else []
    if field_name:
        violations = [{"field": field_name, "description": message}]
        details.append({"@type": _BAD_REQUEST_TYPE, "fieldViolations": violations})
    error: dict[str, Any] = {"code": status, "message": message, "status": name or _STATUSES[status]}
    return {"error": error | ({"details": details} if details else {})}


@dataclass
class Fcm:
    """One project and its service account ``email``, whose key has the public half ``public_key``.

    ``sent`` are the messages that were taken, in order; ``grants`` counts access tokens. ``unregistered`` and
    ``of_another_sender`` are registration tokens that are answered so.
    """

    project: str
    email: str
    public_key: RSAPublicKey
    now_s: Callable[[], float]
    sent: list[dict[str, Any]] = field(default_factory=list)
    grants: int = 0
    unregistered: set[str] = field(default_factory=set)
    of_another_sender: set[str] = field(default_factory=set)
    _valid: dict[str, float] = field(default_factory=dict)

    def app(self) -> Starlette:
        """Return it as an ASGI app."""
        return Starlette(
            routes=[
                Route("/token", self._grant, methods=["POST"]),
                Route("/v1/projects/{project}/messages:send", self._send, methods=["POST"]),
            ]
        )

    def revoke(self) -> None:
        """Let every access token that was granted be refused from now on."""
        self._valid.clear()

    async def _grant(self, request: Request) -> Response:
        form = {name: values[-1] for name, values in parse_qs((await request.body()).decode()).items()}
        if form.get("grant_type") != GRANT:
            return _token_error("unsupported_grant_type", f"Invalid grant_type: {form.get('grant_type', '')}")
        try:
            # Validity in time is judged below, by this server's clock.
            claims = jwt.decode(
                form.get("assertion", ""),
                self.public_key,
                algorithms=["RS256"],
                audience=str(request.url),
                options={"verify_exp": False, "verify_iat": False, "require": ["iss", "aud", "iat", "exp"]},
            )
        except jwt.InvalidSignatureError:
            return _token_error("invalid_grant", "Invalid JWT Signature.")
        except jwt.InvalidTokenError as error:
            return _token_error("invalid_grant", f"Invalid JWT: {error}")
        now_s = self.now_s()
        if not claims["iat"] <= now_s + 60 or not now_s < claims["exp"] <= claims["iat"] + 3_600:
            return _token_error("invalid_grant", "Invalid JWT: Token must be a short-lived token (60 minutes)")
        if claims["iss"] != self.email:
            return _token_error("invalid_grant", "Invalid grant: account not found")
        if claims.get("scope") != SCOPE:
            return _token_error("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        self.grants += 1
        token = f"ya29.granted-{self.grants}"
        self._valid[token] = now_s + TOKEN_LIFE_S
        return JSONResponse({"access_token": token, "expires_in": TOKEN_LIFE_S, "token_type": "Bearer"})

    async def _send(self, request: Request) -> Response:
        if self._valid.get(request.headers.get("authorization", "").removeprefix("Bearer "), 0) <= self.now_s():
            said = "Request had invalid authentication credentials. Expected OAuth 2 access token."
            return JSONResponse(fcm_error(401, said), 401)
        if request.path_params["project"] != self.project:
            said = f"Permission 'cloudmessaging.messages.create' denied on resource '{request.url.path}'"
            return JSONResponse(fcm_error(403, said), 403)
        try:
            asked = json.loads(await request.body())
        except ValueError:
            return JSONResponse(fcm_error(400, "Invalid JSON payload received."), 400)
        message = asked.get("message", {})
        if wrong := self._wrong(message):
            return JSONResponse(wrong, wrong["error"]["code"])
        if asked.get("validate_only"):
            return JSONResponse({"name": f"projects/{self.project}/messages/fake_message_id"})
        self.sent.append(message)
        return JSONResponse({"name": f"projects/{self.project}/messages/0:{len(self.sent)}"})

    def _wrong(self, message: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return why Firebase takes no such message."""
        for where, part, allowed in (
            ("message", message, _PARTS),
            ("message.notification", message.get("notification", {}), _NOTIFICATION),
        ):
            for name in sorted(set(part) - allowed):
                said = f"Invalid JSON payload received. Unknown name \"{name}\" at '{where}': Cannot find field."
                return fcm_error(400, said, field_name=where)
        for at, (_, value) in enumerate(message.get("data", {}).items()):
            if not isinstance(value, str):
                where = f"message.data[{at}].value"
                return fcm_error(400, f"Invalid value at '{where}' (TYPE_STRING), {value}", field_name=where)
        if len({"token", "topic", "condition"} & set(message)) != 1:
            said = "Recipient of the message is not set."
            return fcm_error(400, said, code="INVALID_ARGUMENT", field_name="message")
        if len(json.dumps(message.get("data", {})) + json.dumps(message.get("notification", {}))) > 4_096:
            return fcm_error(400, "Android message is too big", code="INVALID_ARGUMENT", field_name="message")
        return self._wrong_token(message.get("token", ""))

    def _wrong_token(self, token: str) -> dict[str, Any] | None:
        if token in self.unregistered:
            return fcm_error(404, "Requested entity was not found.", code="UNREGISTERED")
        if token in self.of_another_sender:
            return fcm_error(403, "SenderId mismatch", code="SENDER_ID_MISMATCH")
        if " " in token:
            said = "The registration token is not a valid FCM registration token"
            return fcm_error(400, said, code="INVALID_ARGUMENT")
        return None


def _token_error(error: str, description: str) -> Response:
    return JSONResponse({"error": error, "error_description": description}, 400)
