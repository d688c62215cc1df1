"""A provider of batches on loopback (`/files`, `/batches`, as OpenAI's), which counts what is paid."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import orjson
from stub_endpoint import Reply, Stub, completion

Line = dict[str, Any]


def well(line: Line) -> Line:
    return {"custom_id": line["custom_id"], "response": {"status_code": 200, "body": completion(line["body"], line["url"])}, "error": None}


class Provider(Stub):
    """Files and batches; a batch is over after `polls` looks at it. `answers` makes a line's result, None = the line expired. `crash` closes
    the connection unanswered *after* the call has had its effect. `seen` is told of every call before it is answered: "uploaded", "created",
    "looked at", "downloaded"."""

    def __init__(self, answers: Callable[[Line], Line | None] = well, *, polls: int = 1) -> None:
        super().__init__(owner="other")
        self.answers, self.polls, self.crash = answers, polls, ""
        self.seen: Callable[[str], object] = lambda what: None
        self.uploads = 0
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.paid: Counter[str] = Counter()

    def reply(self, method: str, path: str, headers: dict[str, str], content: bytes) -> Reply:
        where = path.removeprefix("/v1/").partition("?")[0]
        if where == "files":
            edge = re.search("boundary=(.*)", headers["content-type"])
            assert edge is not None
            part = content.split(b"--" + edge[1].encode())[2].split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")
            name = f"file-{len(self.files)}"
            self.files[name] = part
            self.uploads += 1
            self.seen("uploaded")
            return Reply({"id": name})
        if where.startswith("files/"):
            self.seen("downloaded")
            return Reply(self.files[where.split("/")[1]])
        if where == "batches" and method == "POST":
            body = orjson.loads(content)
            name = f"batch-{len(self.batches)}"
            self.batches[name] = {"id": name, "status": "in_progress", "polls": 0, **body}
            self.seen("created")
            return Reply({"id": name}, cut=-1) if self.crash == "created" else Reply({"id": name})
        if where == "batches":
            return Reply({"data": list(self.batches.values())[::-1], "has_more": False})
        if where.startswith("batches/"):
            batch = self.batches[where.split("/")[1]]
            batch["polls"] += 1
            if batch["polls"] >= self.polls and batch["status"] == "in_progress":
                self._finish(batch)
            self.seen("looked at")
            return Reply(batch)
        return super().reply(method, path, headers, content)

    def _finish(self, batch: dict[str, Any]) -> None:
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        made = [(line, self.answers(line)) for line in lines]
        good = [a for _, a in made if a is not None and a["response"]["status_code"] == 200]
        bad = [a for _, a in made if a is not None and a["response"]["status_code"] != 200]
        self.paid.update(a["custom_id"] for a in good)
        for kind, listed in (("output_file_id", good), ("error_file_id", bad)):
            if listed:
                name = f"file-{len(self.files)}"
                self.files[name] = b"\n".join(orjson.dumps(a) for a in listed)
                batch[kind] = name
        batch["status"] = "expired" if any(a is None for _, a in made) else "completed"
