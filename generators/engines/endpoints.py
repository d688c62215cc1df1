"""HTTP to one or several copies of an endpoint: least-loaded routing, dead ones left out, and every failure sorted into what it means.

aiohttp rather than httpx, by measurement: `synth bench endpoint` prints the CPU of both (httpx: some thirty times as much a request at 64 at once).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson

from data.errors import SynthError, UserError
from generators.engines.sending import Busy, Failed

if TYPE_CHECKING:
    import aiohttp

CONNECT_S = 10.0
MOST_BYTES = 64 << 20  # of one answer
_EJECT_S, _EJECT_MOST_S = 0.5, 5.0  # how long a dead copy is left alone, doubling
_WRONG_IN_A_ROW = 5  # 5xx, resets or garbage after which a copy counts as dead: failing quickly, it would look the least loaded
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_SPENT = ("insufficient_quota", "billing_hard_limit_reached")


class _Copy:
    """One base URL and how it is doing."""

    def __init__(self, url: str) -> None:
        self.url = url
        parts = urlsplit(url)
        self.root = f"{parts.scheme}://{parts.netloc}"
        self.in_flight = 0
        self.ejected_until = 0.0
        self.wrong = 0
        self.ejections = 0
        self.proxy = _proxy(url)

    def well(self) -> None:
        self.wrong = self.ejections = 0
        self.ejected_until = 0.0

    def failed(self, now: float, *, unreachable: bool = False) -> None:
        self.wrong += 1
        if now >= self.ejected_until and (unreachable or self.wrong >= _WRONG_IN_A_ROW):  # those on their way with the first to fail say nothing new
            self.ejected_until = now + min(_EJECT_MOST_S, _EJECT_S * 2 ** min(self.ejections, 8))
            self.ejections += 1


class Endpoints:
    """Use on one event loop. Paths without a leading slash are below the base URL (…/v1), with one below the server's root.

    The key is read from the environment variable that `key_env` names and goes into the Authorization header, nowhere else:
    wherever a server repeats it in an error, `$NAME` stands in its place.
    """

    def __init__(self, urls: str | Sequence[str], *, key_env: str = "", key: str = "") -> None:
        self.copies = [_Copy(base_url(url)) for url in ([urls] if isinstance(urls, str) else urls)]
        if not self.copies:
            raise UserError("engine.openai.url: give the address of an endpoint, e.g. http://127.0.0.1:8000/v1")
        self.key_env = key_env
        self._key = key or _key(key_env)
        self._session: aiohttp.ClientSession | None = None
        self._answered = False  # some request was answered: a 403 is then about the one that gets it

    @property
    def address(self) -> str:
        return ", ".join(copy.url for copy in self.copies)

    async def post(self, path: str, body: Mapping[str, Any], *, copy: int | None = None) -> dict[str, Any]:
        """The JSON object answered. Raises Busy or Failed (see the scheduler), SynthError where no request can be answered (a wrong key)."""
        return await self._send("POST", path, orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS), copy)

    async def get(self, path: str, *, copy: int | None = None) -> dict[str, Any]:
        return await self._send("GET", path, None, copy)

    async def raw(self, method: str, path: str, **options: Any) -> bytes:
        """For files: the body as it came; `options` go to aiohttp."""
        return await self._exchange(self._pick(), method, path, **options)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _send(self, method: str, path: str, body: bytes | None, which: int | None) -> dict[str, Any]:
        copy = self._pick() if which is None else self.copies[which]
        content = await self._exchange(copy, method, path, data=body)
        try:
            answer = orjson.loads(content) if content else {}
        except orjson.JSONDecodeError as error:
            copy.failed(time.monotonic())
            raise Busy(f"{copy.url} answered something that is not JSON ({error}): {_shown(content, self._hide)}") from None
        if not isinstance(answer, dict):
            copy.failed(time.monotonic())
            raise Busy(f"{copy.url} answered JSON that is not an object: {_shown(content, self._hide)}")
        copy.well()
        self._answered = True
        return answer

    async def _exchange(self, copy: _Copy, method: str, path: str, **options: Any) -> bytes:
        import aiohttp

        session = self._session or self._open()
        url = f"{copy.root}{path}" if path.startswith("/") else f"{copy.url}/{path}"
        copy.in_flight += 1
        try:
            async with session.request(method, url, allow_redirects=False, proxy=copy.proxy, **options) as response:
                content = await _read(response)
                if response.status == 200:
                    return content
        except (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError) as error:
            copy.failed(time.monotonic(), unreachable=True)
            raise Busy(f"nobody answers at {copy.url} ({_why(error)})", counts=False) from None
        except (aiohttp.InvalidURL, ValueError) as error:
            raise UserError(f"{copy.url} is not an address that can be asked: {self._hide(str(error))}") from None
        except (aiohttp.ClientError, OSError) as error:
            copy.failed(time.monotonic())
            raise Busy(f"the connection to {copy.url} broke ({self._hide(_why(error))})") from None
        finally:
            copy.in_flight -= 1
        raise self._refusal(copy, response.status, response.headers, content)

    def _pick(self) -> _Copy:
        """The least loaded of the living; Busy where all are left alone for the moment."""
        if len(self.copies) == 1:
            copy = self.copies[0]
        else:
            now = time.monotonic()
            copy = min(self.copies, key=lambda c: (c.ejected_until > now, c.in_flight, c.ejections))
        if copy.ejected_until and (wait := copy.ejected_until - time.monotonic()) > 0 and (copy.wrong < _WRONG_IN_A_ROW or len(self.copies) > 1):
            raise Busy(f"nobody answers at {self.address}", retry_after=wait, counts=False)
        return copy

    def _refusal(self, copy: _Copy, status: int, headers: Mapping[str, str], content: bytes) -> Exception:
        said = _message(content, self._hide)
        where = f"{copy.url} answered {status}" + (f": {said}" if said else "")
        if status == 401 or (status == 403 and not self._answered):
            given = f"the key in ${self.key_env}" if self.key_env else "a request without a key"
            right = f"put a valid key into ${self.key_env}" if self.key_env else "name the variable that holds one in engine.openai.key_env"
            return UserError(f"{copy.url} refused {given} ({status}{': ' + said if said else ''}); {right}")
        if status == 402 or (status == 429 and any(word in content.decode("utf-8", "replace") for word in _SPENT)):
            return SynthError(f"{where}; there is no money left on this account; top it up and go on with `synth resume`")
        if status in (429, 503, 529):
            return Busy(where, retry_after=retry_after(headers), load=True, counts=False)
        if status >= 500 or status in (408, 409, 425):
            copy.failed(time.monotonic())
            return Busy(where, retry_after=retry_after(headers))
        if 300 <= status < 400:
            elsewhere = headers.get("Location", "it does not say where")
            return UserError(f"{copy.url} sends elsewhere ({status}, {elsewhere}); give that address as engine.openai.url")
        if status in (404, 405):
            return UserError(f"{where}; is this the base address of an OpenAI-compatible endpoint, and is the model's name right?")
        return Failed(where)

    def _open(self) -> aiohttp.ClientSession:
        import aiohttp

        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        if all(urlsplit(copy.url).hostname in _LOOPBACK for copy in self.copies):
            headers["Accept-Encoding"] = "identity"  # packing what never leaves the machine only costs both sides time
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=20),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),  # the scheduler times a try
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=headers,
        )
        return self._session

    def _hide(self, text: str) -> str:
        return text.replace(self._key, f"${self.key_env or 'KEY'}") if self._key else text


def base_url(url: str) -> str:
    """`http://host:8000` -> `http://host:8000/v1`; an address with a path is taken as it is. UserError for none, and for one with a password."""
    parts = urlsplit(url.strip())
    try:
        parts.port  # noqa: B018  raises for a port that is none
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable:
        raise UserError(f"{url!r} is not an endpoint's address; give its base URL, e.g. http://127.0.0.1:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UserError(
            f"an endpoint's address holds no user, password or query ({parts.scheme}://{parts.hostname}); "
            "put the key into an environment variable and name that in engine.openai.key_env"
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or '/v1'}"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that an answer asks to wait: `retry-after-ms`, or `Retry-After` in seconds or as a date (RFC 9110, 10.2.3). None where it does not."""
    try:
        if milliseconds := headers.get("retry-after-ms"):
            return max(0.0, float(milliseconds) / 1000)
        if not (given := headers.get("Retry-After")):
            return None
        try:
            wait = float(given)
        except ValueError:
            wait = parsedate_to_datetime(given).timestamp() - time.time()
        return max(0.0, wait) if wait < float("inf") else None
    except (ValueError, TypeError, OverflowError):
        return None


async def _read(response: aiohttp.ClientResponse) -> bytes:
    length = response.content_length
    if length is not None and length <= MOST_BYTES and "Content-Encoding" not in response.headers:
        return await response.read()
    parts, total = [], 0
    async for part in response.content.iter_any():
        parts.append(part)
        total += len(part)
        if total > MOST_BYTES:
            response.close()
            raise Failed(f"the answer is longer than {MOST_BYTES >> 20} MiB")
    return b"".join(parts)


def _key(name: str) -> str:
    if not name:
        return ""
    value = os.environ.get(name, "").strip()
    if not value:
        raise UserError(f"engine.openai.key_env names ${name}, which is not set; export {name}=… with the endpoint's key")
    return value


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for this address, asked once and not with every request."""
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    if parts.hostname in _LOOPBACK or proxy_bypass(parts.netloc):
        return None
    return getproxies().get(parts.scheme)


def _message(content: bytes, hide: Any) -> str:
    """The endpoint's own words, where it has any."""
    try:
        said = orjson.loads(content)
        error = said.get("error", said) if isinstance(said, dict) else said
        text = error.get("message", error.get("detail", "")) if isinstance(error, dict) else error
        return hide(str(text))[:300]
    except (orjson.JSONDecodeError, AttributeError):
        return _shown(content, hide)


def _shown(content: bytes, hide: Any) -> str:
    return hide(content[:4096].decode("utf-8", "replace"))[:120].strip()


def _why(error: BaseException) -> str:
    cause = error.__cause__ or error
    named = getattr(error, "os_error", None)
    text = (named.strerror if named is not None else None) or str(cause) or type(cause).__name__
    return "timed out" if isinstance(error, asyncio.TimeoutError) else text
