"""Signing in with an account of the Hub: OpenID Connect, as far as Gradio's button asks for it.

Whoever is sent here agrees at once, and is the user of `Store.signs_in`.
"""

import time
from functools import cache
from typing import Any
from urllib.parse import urlencode

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse
from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.hub_stub.store import Store, refusal

CLIENT = {"OAUTH_CLIENT_ID": "the-space", "OAUTH_CLIENT_SECRET": "the-spaces-secret"}
SCOPES = "openid profile contribute-repos read-repos jobs read-billing"


@cache
def signing_key() -> RSAKey:
    """One for all tests: it takes as long to make as the rest of the stub."""
    return RSAKey.generate_key(2048, parameters={"kid": "stub"})


def add_oauth(app: FastAPI, store: Store, port: int) -> None:
    issuer = f"http://127.0.0.1:{port}"
    key = signing_key()
    nonces: dict[str, str] = {}

    @app.get("/.well-known/openid-configuration")
    def configuration() -> dict[str, Any]:
        return {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/oauth/authorize",
            "token_endpoint": f"{issuer}/oauth/token",
            "userinfo_endpoint": f"{issuer}/oauth/userinfo",
            "jwks_uri": f"{issuer}/oauth/jwks",
            "id_token_signing_alg_values_supported": ["RS256"],
        }

    @app.get("/oauth/jwks")
    def keys() -> dict[str, Any]:
        return {"keys": [key.as_dict(private=False)]}

    @app.get("/oauth/authorize")
    def authorize(redirect_uri: str, state: str, client_id: str, nonce: str = "") -> RedirectResponse:
        if client_id != CLIENT["OAUTH_CLIENT_ID"]:
            raise refusal(400, "", "Unknown client")
        code = f"code-{len(nonces)}"
        nonces[code] = nonce
        return RedirectResponse(
            f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{urlencode({'code': code, 'state': state})}"
        )

    @app.post("/oauth/token")
    async def token(request: Request) -> dict[str, Any]:
        code = str((await request.form())["code"])
        if code not in nonces or store.signs_in is None:
            raise refusal(400, "", "invalid_grant")
        name = store.users[store.signs_in].name
        now = int(time.time())
        claims = {
            "iss": issuer,
            "aud": CLIENT["OAUTH_CLIENT_ID"],
            "sub": name,
            "iat": now,
            "exp": now + 8 * 3600,
            "nonce": nonces.pop(code),
            "name": name.capitalize(),
            "preferred_username": name,
            "profile": f"{issuer}/{name}",
            "picture": "",
        }
        signed = jwt.encode({"alg": "RS256", "kid": "stub"}, claims, key)
        return {
            "access_token": store.signs_in,
            "token_type": "bearer",
            "expires_in": 8 * 3600,
            "scope": SCOPES,
            "id_token": signed,
        }
