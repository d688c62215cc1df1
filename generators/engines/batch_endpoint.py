"""Provider batches (`/files` and `/batches`, as OpenAI's): answers within a day at half the price. For synthesis, not for rollouts.

What is paid is never paid again: which request lies in which batch is durable before the batch is made, the batch's id before it is waited for.
A crash in between is told apart by the tag in the batch's metadata, which the provider's own list of batches shows.
"""

from __future__ import annotations

import json
import queue
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from data.errors import SynthError
from data.records import Completion, Request
from generators.engines import structured
from generators.engines.around import Around
from generators.engines.base import Capabilities
from generators.engines.openai import OpenAIEngine
from generators.engines.scheduler import Busy, Failed, unanswered
from generators.engines.wire import body_of, chat_api, completions_of, usage_of

MOST = 50_000  # requests of one batch, the provider's limit
_SCHEMA = """
CREATE TABLE IF NOT EXISTS batches (tag TEXT PRIMARY KEY, file_id TEXT NOT NULL, batch_id TEXT);
CREATE TABLE IF NOT EXISTS items (custom_id TEXT PRIMARY KEY, tag TEXT NOT NULL);
"""
_OVER = ("completed", "expired", "cancelled")  # each may hold answers


@dataclass
class _Item:
    """A request, as it is asked this time: the `time`-th, after wrong answers."""

    request: Request
    asked: Request
    time: int = 0
    usage: tuple[int, int] = (0, 0)

    @property
    def custom_id(self) -> str:
        return f"{self.request.key}.{self.time}" if self.time else self.request.key


@dataclass
class _Batch:
    tag: str
    id: str
    items: dict[str, _Item] = field(default_factory=dict)
    due: float = 0.0
    polls: int = 0


class BatchEngine(Around):
    """`engine` says how requests are worded and answers read; `state` is the SQLite file that remembers the batches of a run.

    Requests are gathered until the input has ended, has given nothing for `gather_s`, or 50,000 are there. Lines that failed at the provider or
    expired are put into the next batch, up to `tries` times; wrong forms are asked again with the error. Closing leaves batches with the provider.
    """

    def __init__(self, engine: OpenAIEngine, state: Path, *, gather_s: float = 2.0, poll_s: float = 30.0, tries: int = 3) -> None:
        self.engine: OpenAIEngine = engine
        self.gather_s, self.poll_s, self.tries = gather_s, poll_s, tries
        self.capabilities: Capabilities = engine.capabilities
        self._closed = threading.Event()
        self._unwanted: set[str] = set()
        self._tried: dict[str, int] = {}  # batches that came back without an answer, by custom id
        self._state = sqlite3.connect(state, check_same_thread=False, isolation_level=None)
        self._state.execute("PRAGMA journal_mode = WAL")
        self._state.execute("PRAGMA synchronous = FULL")
        self._state.executescript(_SCHEMA)

    # -- generation --------------------------------------------------------------------------------------------------

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        inbox: queue.SimpleQueue[Request | BaseException | None] = queue.SimpleQueue()
        threading.Thread(target=_feed, args=(requests, inbox), name="synth-batch-input", daemon=True).start()
        waiting: dict[str, _Item] = {}
        batches: dict[str, _Batch] = {}
        ended = False
        while not self._closed.is_set():
            if not ended:
                ended = self._gather(inbox, waiting)
            for item in [i for i in waiting.values() if i.request.key in self._unwanted]:
                del waiting[item.custom_id]
                yield unanswered(item.request, "cancelled", "")
            yield from self._send(waiting, batches)
            if not batches:
                if ended:
                    return
                continue
            self._closed.wait(max(0.0, min(min(b.due for b in batches.values()) - time.monotonic(), self.poll_s if ended else 0.0)))
            for batch in list(batches.values()):
                if time.monotonic() >= batch.due and (told := self._over(batch)):
                    del batches[batch.tag]
                    yield from self._answers(batch, told, waiting)
        raise SynthError("the engine was closed while batches were under way; they go on at the provider, `synth resume` picks them up")

    def _gather(self, inbox: queue.SimpleQueue[Any], waiting: dict[str, _Item]) -> bool:
        """Takes what comes; True once the input has ended."""
        while len(waiting) < MOST:
            try:
                request = inbox.get(timeout=self.gather_s)
            except queue.Empty:
                return False
            if request is None:
                return True
            if isinstance(request, BaseException):
                raise request
            item = _Item(request, request)
            waiting[item.custom_id] = item
        return False

    def _send(self, waiting: dict[str, _Item], batches: dict[str, _Batch]) -> Iterator[Completion]:
        """What waits goes into the batch that it already lies in, or into a new one; what cannot be asked is answered with why."""
        for custom_id, tag in self._lying(list(waiting)):
            batch = batches.get(tag) or self._taken_up(tag)
            if batch is not None:
                batches[tag] = batch
                batch.items[custom_id] = waiting.pop(custom_id)
        lines: dict[str, list[tuple[_Item, bytes]]] = {}
        for item in list(waiting.values()):
            try:
                path, body = self._worded(item)
            except Failed as failed:
                del waiting[item.custom_id]
                yield unanswered(item.request, "error", failed.reason)
                continue
            line = orjson.dumps({"custom_id": item.custom_id, "method": "POST", "url": path, "body": body})
            lines.setdefault(path, []).append((item, line))
        for path, listed in lines.items():
            batch = self._submit(path, listed)
            batches[batch.tag] = batch
        waiting.clear()

    def _worded(self, item: _Item) -> tuple[str, dict[str, Any]]:
        engine, asked = self.engine, item.asked
        more: dict[str, Any] = {}
        if item.request.structured is not None:
            first, more = structured.worded(item.request, engine.dialect)
            if item.time == 0:
                asked = item.asked = first
        chat = chat_api(asked, engine.api)
        body = body_of(asked, engine.model, engine.dialect, chat=chat, image=engine.image)
        return "/v1/chat/completions" if chat else "/v1/completions", body | more

    # -- at the provider ---------------------------------------------------------------------------------------------

    def _submit(self, path: str, listed: Sequence[tuple[_Item, bytes]]) -> _Batch:
        tag = uuid.uuid4().hex
        file = self._upload(b"\n".join(line for _, line in listed) + b"\n")
        with self._transaction():
            self._state.execute("INSERT INTO batches VALUES (?, ?, NULL)", (tag, file))
            self._state.executemany("INSERT OR REPLACE INTO items VALUES (?, ?)", [(item.custom_id, tag) for item, _ in listed])
        return _Batch(tag, self._create(tag, file, path), {item.custom_id: item for item, _ in listed})

    def _upload(self, content: bytes) -> str:
        edge = uuid.uuid4().hex
        parts = (
            f'--{edge}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="synth.jsonl"\r\nContent-Type: application/jsonl\r\n\r\n'
        )
        body = parts.encode() + content + f"\r\n--{edge}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={edge}"}
        return str(self._object("POST", "files", data=body, headers=headers)["id"])

    def _create(self, tag: str, file: str, path: str) -> str:
        """The batch's id, durable. Whether a request to make it arrived is looked up before it is made again."""
        body = orjson.dumps({"input_file_id": file, "endpoint": path, "completion_window": "24h", "metadata": {"synth": tag}})
        made = self._patiently(lambda: self._find(tag) or self._once("POST", "batches", data=body))
        with self._transaction():
            self._state.execute("UPDATE batches SET batch_id = ? WHERE tag = ?", (str(made["id"]), tag))
        return str(made["id"])

    def _taken_up(self, tag: str) -> _Batch | None:
        """A batch of an earlier process; None where it was never made, so that its requests are free to be asked."""
        row = self._state.execute("SELECT batch_id FROM batches WHERE tag = ?", (tag,)).fetchone()
        known = row[0] if row else None
        if known is None and (found := self._patiently(lambda: self._find(tag) or {})):
            known = str(found["id"])
            with self._transaction():
                self._state.execute("UPDATE batches SET batch_id = ? WHERE tag = ?", (known, tag))
        if known is None:
            self._forget(tag)
            return None
        return _Batch(tag, known)

    def _find(self, tag: str) -> dict[str, Any] | None:
        """The batch with this tag in the provider's list, newest first."""
        after = ""
        while True:
            page = self._once("GET", f"batches?limit=100{after}")
            for batch in page.get("data") or ():
                if (batch.get("metadata") or {}).get("synth") == tag:
                    return dict(batch)
            if not page.get("has_more") or not page.get("data"):
                return None
            after = f"&after={page['data'][-1]['id']}"

    def _over(self, batch: _Batch) -> dict[str, Any] | None:
        """What the provider says of a batch that is over, None before that."""
        told = self._object("GET", f"batches/{batch.id}")
        status = told.get("status")
        if status == "failed":
            self._forget(batch.tag)
            errors = (told.get("errors") or {}).get("data") or [{}]
            said = str(errors[0].get("message", "no reason given"))[:300]
            raise SynthError(f"batch {batch.id} was refused as a whole: {said}; nothing of it is paid")
        batch.polls += 1
        batch.due = time.monotonic() + min(self.poll_s, self.poll_s / 8 * batch.polls)
        return told if status in _OVER else None

    def _answers(self, batch: _Batch, told: Mapping[str, Any], waiting: dict[str, _Item]) -> Iterator[Completion]:
        """Completions of a batch that is over; what was not answered waits for the next one."""
        left = dict(batch.items)
        for name in ("output_file_id", "error_file_id"):
            for line in self._lines(told.get(name)):
                item = left.pop(str(line.get("custom_id")), None)
                if item is not None and (completion := self._read(item, line, waiting)) is not None:
                    yield completion
        for item in left.values():  # expired, or never come to
            if (completion := self._next(item, f"the batch ended as {told.get('status')} without an answer to it", waiting)) is not None:
                yield completion

    def _read(self, item: _Item, line: Mapping[str, Any], waiting: dict[str, _Item]) -> Completion | None:
        engine, request = self.engine, item.request
        try:
            response = line.get("response") or {}
            status, body = int(response.get("status_code") or 0), response.get("body") or {}
            if status != 200:
                error = (body.get("error") if isinstance(body, Mapping) else None) or line.get("error") or {}
                reason = f"{status}: {str(error.get('message', error))[:300]}"
                if 400 <= status < 500 and status not in (408, 429):
                    raise Failed(reason)
                return self._next(item, reason, waiting)
            made = completions_of(body, [item.asked], engine.dialect, policy_id=engine.answered_by(body, request))[0]
        except Failed as failed:
            self._free(item)
            return unanswered(request, "error", failed.reason)
        except (Busy, AttributeError, TypeError, ValueError) as error:
            return self._next(item, str(error), waiting)
        usage = usage_of(body)
        item.usage = (item.usage[0] + usage[0], item.usage[1] + usage[1])
        made = replace(engine.counted(made, item.asked, usage), key=request.key, usage=item.usage)
        found = structured.judged(request, item.asked, made, item.time, engine.structured_tries)
        if isinstance(found, Completion):
            return found
        again = _Item(request, found, item.time + 1, item.usage)
        waiting[again.custom_id] = again
        return None

    def _next(self, item: _Item, reason: str, waiting: dict[str, _Item]) -> Completion | None:
        """Into the next batch, or the reason why not."""
        self._free(item)
        tried = self._tried.get(item.custom_id, 0) + 1
        self._tried[item.custom_id] = tried
        if tried >= self.tries:
            return unanswered(item.request, "error", f"{reason}; in {tried} batches")
        waiting[item.custom_id] = item
        return None

    def _lines(self, file: str | None) -> Iterator[dict[str, Any]]:
        if not file:
            return
        for line in self._patiently(lambda: self._raw("GET", f"files/{file}/content")).splitlines():
            try:
                parsed = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue  # its request is left without an answer, and asked again
            if isinstance(parsed, dict):
                yield parsed

    # -- how it is asked ---------------------------------------------------------------------------------------------

    def _raw(self, method: str, path: str, **options: Any) -> bytes:
        return self.engine.scheduler.call(self.engine.endpoints.raw(method, path, **options))

    def _once(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        content = self._raw(method, path, **options)
        try:
            answer = orjson.loads(content)
        except orjson.JSONDecodeError:
            raise Busy(f"{path}: not JSON") from None
        if not isinstance(answer, dict):
            raise Busy(f"{path}: not a JSON object")
        return answer

    def _object(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        return self._patiently(lambda: self._once(method, path, **options))

    def _patiently(self, ask: Callable[[], Any]) -> Any:
        """Minutes of trouble are nothing to something that takes a day. SynthError after that, or where it is refused."""
        wait = 0.2
        for _ in range(12):
            try:
                return ask()
            except Failed as failed:
                raise SynthError(failed.reason) from None
            except Busy as busy:
                last = busy
                if self._closed.wait(max(wait, busy.retry_after or 0.0)):
                    break
                wait = min(60.0, 2 * wait)
        raise SynthError(f"{last.reason}; `synth resume` goes on where it stands")

    # -- what is remembered ------------------------------------------------------------------------------------------

    def _lying(self, custom_ids: Sequence[str]) -> list[tuple[str, str]]:
        sql = "SELECT custom_id, tag FROM items WHERE custom_id IN (SELECT value FROM json_each(?))"
        return self._state.execute(sql, (json.dumps(list(custom_ids)),)).fetchall()

    def _free(self, item: _Item) -> None:
        with self._transaction():
            self._state.execute("DELETE FROM items WHERE custom_id = ?", (item.custom_id,))

    def _forget(self, tag: str) -> None:
        with self._transaction():
            self._state.execute("DELETE FROM items WHERE tag = ?", (tag,))
            self._state.execute("DELETE FROM batches WHERE tag = ?", (tag,))

    def _transaction(self) -> _Transaction:
        return _Transaction(self._state)

    # -- as any engine -----------------------------------------------------------------------------------------------

    def cancel(self, keys: Iterable[str]) -> None:
        """What lies in no batch yet; a batch is paid as a whole."""
        self._unwanted.update(keys)

    def close(self) -> None:
        if not self._closed.is_set():
            self._closed.set()
            self.engine.close()
            self._state.close()


class _Transaction:
    def __init__(self, con: sqlite3.Connection) -> None:
        self.con = con

    def __enter__(self) -> None:
        self.con.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.con.execute("ROLLBACK" if kind else "COMMIT")


def _feed(requests: Iterable[Request], inbox: queue.SimpleQueue[Any]) -> None:
    try:
        for request in requests:
            inbox.put(request)
        inbox.put(None)
    except BaseException as error:  # noqa: BLE001  carried to the consumer's thread and raised there
        inbox.put(error)
