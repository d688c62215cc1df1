"""ASGI middleware for vLLM's server: every path needs the key. vLLM itself guards /v1 only, not the routes that pause it and change its weights."""

from __future__ import annotations

import os
import secrets
from typing import Any


class KeyRequired:
    def __init__(self, app: Any) -> None:
        key = os.environ.get("VLLM_API_KEY", "")
        if not key:
            raise RuntimeError("VLLM_API_KEY is not set: this server is started by synth, with a key made for it")
        self.app, self.expected = app, f"Bearer {key}".encode()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not secrets.compare_digest(given, self.expected):
                await send({"type": "http.response.start", "status": 401, "headers": [(b"content-type", b"application/json")]})
                await send({"type": "http.response.body", "body": b'{"error":{"message":"Unauthorized"}}'})
                return
        elif scope["type"] == "websocket":
            return
        await self.app(scope, receive, send)
