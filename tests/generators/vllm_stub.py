"""Speaks the part of vLLM's HTTP protocol that our engine uses, the embedded engine's arithmetic behind it: for tests where vLLM is not there.

Started like vLLM's server (`… serve FOLDER --port N`). It refuses what vLLM refuses: weights outside start … finish, a path without the key.
Every call is a line of JSON in $STUB_CALLS. $STUB_FAULT: `stale` (takes new weights and keeps the old), `head` (its head stays the old one, as
vLLM's does where the tied one is not sent), `half` (the second update fails, once), `version` (answers under another version).
"""

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

sys.path.insert(0, str(Path(__file__).parents[2]))
from types import SimpleNamespace

import torch
from safetensors.torch import load_file

from generators.engines.decode import FusedDecoder

arguments = sys.argv[sys.argv.index("serve") + 1 :]
folder, port = Path(arguments[0]), int(arguments[arguments.index("--port") + 1])
fault, calls = os.environ.get("STUB_FAULT", ""), Path(os.environ["STUB_CALLS"])
torch.set_num_threads(1)
config = json.loads((folder / "config.json").read_text())
base = load_file(folder / "model.safetensors")
decoder = FusedDecoder(SimpleNamespace(**config), base)  # without transformers: it starts in a second


@torch.inference_mode()
def scored(tokens):
    """Log-probs float32[T - 1, vocab] of what follows each token but the last, and of what follows the last."""
    return decoder.head(decoder.hidden(torch.tensor([tokens]))[0]).log_softmax(-1)


def sampled(tokens, asked):
    """(tokens, log-probs, finish) at temperature 1, a whole forward per token."""
    draw, new, logp = torch.Generator().manual_seed(asked["seed"]), [], []
    while len(new) < asked["max_tokens"]:
        last = scored([*tokens, *new])[-1]
        new.append(int(torch.multinomial(last.exp(), 1, generator=draw)))
        logp.append(float(last[new[-1]]))
        if new[-1] in asked["stop_token_ids"]:
            return new, logp, "stop"
    return new, logp, "length"


class State:
    version, paused, updating, sleeping, finished = "default", False, False, 0, 0
    pending: dict = {}
    lock = threading.Lock()


class Wrong(Exception):
    pass


def generate(body):
    until = time.monotonic() + 30
    while State.paused:
        if time.monotonic() > until:
            raise Wrong("paused for 30 s")
        time.sleep(0.01)
    if State.sleeping:
        raise Wrong("asleep")
    asked, tokens = body["sampling_params"], body["token_ids"]
    with State.lock:
        if "prompt_logprobs" in asked:
            rows = scored(tokens)
            given = [None, *({str(t): {"logprob": float(row[t])}} for t, row in zip(tokens[1:], rows, strict=False))]
            return {"prompt_logprobs": given, "choices": []}
        new, logp, finish = sampled(tokens, asked)
    choice = {
        "token_ids": new,
        "logprobs": {"content": [{"token_id": t, "logprob": p} for t, p in zip(new, logp, strict=True)]},
        "finish_reason": finish,
        "weight_versions": [{"version": "another" if fault == "version" else State.version, "start": 0, "end": len(new)}],
    }
    return {"choices": [choice]}


def update(body):
    if not State.updating:
        raise Wrong("update_weights before start_weight_update")
    State.pending.update(load_file(body["update_info"]["path"]))
    broken = calls.with_name("broken")
    if fault == "half" and State.finished == 1 and not broken.exists():
        broken.touch()
        raise Wrong("out of memory")
    return {}


def finish(body):
    if not State.updating:
        raise Wrong("finish_weight_update before start_weight_update")
    new, State.pending, State.updating = State.pending, {}, False
    State.finished += 1
    if fault == "head":
        decoder.load(new)
        decoder.lm_head = base["model.embed_tokens.weight"].clone()
    elif fault != "stale":
        if "lm_head.weight" not in new:
            raise Wrong("no lm_head.weight")
        decoder.load(new)
    State.version = body["weight_version"]
    return {}


def control(path, query, body):
    match path:
        case "/health" | "/init_weight_transfer_engine":
            return {}
        case "/v1/models":
            return {"data": [{"id": "policy", "owned_by": "vllm", "max_model_len": decoder.context}]}
        case "/inference/v1/generate":
            return generate(body)
        case "/pause":
            State.paused = True
        case "/resume":
            State.paused = False
        case "/start_weight_update":
            State.updating = True
        case "/update_weights":
            return update(body)
        case "/finish_weight_update":
            return finish(body)
        case "/reset_prefix_cache":
            return {"success": True}
        case "/update_weight_version":
            State.version = body["new_version"]
        case "/weight_info":
            return {"weight_version": State.version}
        case "/sleep":
            State.sleeping = int(query["level"][0])
        case "/wake_up":
            State.sleeping = 0 if query.get("tags", ["kv_cache"]) == ["kv_cache"] else State.sleeping
        case "/v1/load_lora_adapter":
            if not (Path(body["lora_path"]) / "adapter_model.safetensors").is_file() or not body["load_inplace"]:
                raise Wrong("no adapter")
            return "Success: LoRA adapter added successfully."
        case "/die":
            os._exit(9)
        case _:
            raise Wrong(f"no such path: {path}")
    return {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        url = urlsplit(self.path)
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        status, said = 200, {}
        if self.headers.get("Authorization") != f"Bearer {os.environ['VLLM_API_KEY']}":
            status, said = 401, {"error": {"message": "Unauthorized"}}
        else:
            if url.path not in ("/health", "/inference/v1/generate"):
                with State.lock, calls.open("a") as out:
                    out.write(json.dumps([self.path, body]) + "\n")
            try:
                said = control(url.path, parse_qs(url.query), body)
            except Wrong as error:
                status, said = 500, {"error": {"message": str(error)}}
        content = said.encode() if isinstance(said, str) else json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = answer

    def log_message(self, *args):
        pass


class Listening(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True


Listening(("127.0.0.1", port), Handler).serve_forever()
