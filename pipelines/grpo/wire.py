"""How the run speaks to its ranks: frames of JSON over a local socket, arrays in them bit for bit as base64. Nothing is ever unpickled."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Mapping
from typing import Any

_LENGTH = struct.Struct("<Q")


def frame(message: Mapping[str, Any]) -> bytes:
    """Encoded once, however many ranks it is for."""
    body = json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return _LENGTH.pack(len(body)) + body


def receive(connection: socket.socket) -> dict[str, Any] | None:
    """The next message; None where the other side has gone."""
    head = _exactly(connection, _LENGTH.size)
    body = _exactly(connection, _LENGTH.unpack(head)[0]) if head is not None else None
    return None if body is None else dict(json.loads(body.decode("utf-8", "surrogatepass")))


def _exactly(connection: socket.socket, size: int) -> bytes | None:
    buffer = bytearray(size)
    view, got = memoryview(buffer), 0
    while got < size:
        try:
            count = connection.recv_into(view[got:])
        except ConnectionError:
            return None
        if not count:
            return None
        got += count
    return bytes(buffer)
