"""Structured outputs of the embedded engine: at every step, the tokens that keep a reply inside its grammar, by llguidance.

A reply that is cut off is worth nothing, so each row knows a short way to its end. When the tokens left are just enough for it, the row is led
along it; a token that would leave too few is taken back and drawn again without it. So a reply whose `max_tokens` holds the shortest one found for
its grammar always ends inside it. JSON is written without whitespace: a weak model would write newlines for ever.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.errors import UserError
from data.records import Request

KINDS = ("json_schema", "regex", "choice", "grammar")

_KEPT = 512  # compiled grammars that are remembered
_LONGEST_END = 512  # tokens of an ending that are looked for
_TRIES = 8  # tokens that a row may give back at one step


def grammar_of(structured: Mapping[str, Any]) -> str:
    """llguidance's form of a request's structure (`data.records.Request`). Raises ValueError saying what is wrong with it."""
    from llguidance import LLMatcher, grammar_from

    if len(structured) != 1 or next(iter(structured)) not in KINDS:
        raise ValueError(f"structured takes exactly one of {', '.join(KINDS)}, got {', '.join(map(str, structured)) or 'nothing'}")
    kind, value = next(iter(structured.items()))
    if kind == "json_schema":
        if not isinstance(value, (dict, bool, str)):
            raise ValueError(f"json_schema is a {type(value).__name__}; a schema is an object")
        if isinstance(value, bool):
            value = {} if value else {"enum": []}
        compact = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}
        return LLMatcher.grammar_from_json_schema(value, overrides=compact)  # type: ignore[arg-type]
    if kind == "choice":
        if isinstance(value, str) or not value or not all(isinstance(v, str) and v for v in value):
            raise ValueError("choice takes a list of one or more texts")
        return grammar_from("choice", json.dumps(list(value)))
    if not isinstance(value, str):
        raise ValueError(f"{kind} is a {type(value).__name__}; it takes a text")
    return LLMatcher.grammar_from_regex(value) if kind == "regex" else grammar_from("grammar", value)


@dataclass(frozen=True)
class Grammar:
    """A matcher at its beginning, to be copied for each reply, and the tokens of a short reply (None where none was found)."""

    matcher: Any
    shortest: list[int] | None


class Grammars:
    """Compiled grammars over one tokenizer. vocab: the model's, which may be larger than the tokenizer's; eos: every token that ends a text."""

    def __init__(self, tokenizer: Any, vocab: int, eos: Sequence[int]) -> None:
        from llguidance.hf import from_tokenizer

        self.vocab, self.eos = vocab, [e for e in eos if e < vocab]
        if not getattr(tokenizer, "is_fast", False) or not self.eos:
            raise UserError("structured outputs need a policy with a tokenizer.json and an end-of-text token")
        self.tokens = from_tokenizer(tokenizer, n_vocab=vocab, eos_token=self.eos)
        pieces = [self.tokens.decode_bytes([t]) for t in range(vocab)]
        self.orders = (_order(pieces, b"}])>"), _order(pieces, b'"}])>'))
        self._known: dict[str, Grammar | str] = {}

    def compiled(self, structured: Mapping[str, Any]) -> Grammar | str:
        """The grammar of such a structure, or why no reply can be held to it."""
        from llguidance import LLMatcher

        name = json.dumps(structured, sort_keys=True, default=str)
        if name not in self._known:
            if len(self._known) >= _KEPT:
                self._known.clear()
            try:
                grammar = grammar_of(structured)
                wrong, said = LLMatcher.validate_grammar_with_warnings(grammar, self.tokens)
                if wrong:
                    raise ValueError(" ".join(said[0].split()))
                matcher = LLMatcher(self.tokens, grammar, log_level=0)
                self._known[name] = Grammar(matcher, self.ending(matcher))
            except ValueError as error:
                self._known[name] = f"the structure asked for can't be followed: {error}"
        return self._known[name]

    def ending(self, matcher: Any, most: int = _LONGEST_END) -> list[int] | None:
        """A short sequence of tokens, end-of-text included, that completes what the matcher holds; None where none was found.

        Four greedy walks, the shortest one counts: brackets before quotes or after them, patient or not where a choice comes again.
        """
        tried = product(self.orders, (1, 8))
        walks = [w for order, patience in tried if (w := self._walk(matcher.deep_copy(), order, patience, most)) is not None]
        return min(walks, key=len, default=None)

    def _walk(self, matcher: Any, order: NDArray[np.int64], patience: int, most: int) -> list[int] | None:
        path: list[int] = []
        seen: dict[bytes, int] = {}
        while len(path) < most:
            if matcher.is_accepting():
                return [*path, self.eos[0]]
            forced = matcher.compute_ff_tokens()
            if not forced:
                mask = matcher.compute_bitmask()
                allowed = _unpacked(np.frombuffer(mask, np.uint8)[None], self.vocab)[0]
                ranked = order[allowed[order]]
                if not len(ranked):
                    return None
                visit = seen[mask] = seen.get(mask, 0) + 1
                forced = [int(ranked[_rank_at(visit, patience) % len(ranked)])]
            if not matcher.consume_tokens(forced):
                return None
            path += forced
        return None


def _rank_at(visit: int, patience: int) -> int:
    """Which best token the nth visit (from 1) to the same choice tries: mostly the very best, but none is left out for ever, as the choice may be
    a loop. With patience 1: 0 1 0 2 0 1 0 3 …, with 8: fifteen times 0 between two others."""
    turn, rest = divmod(visit, 2 * patience)
    return 0 if rest else (turn & -turn).bit_length()


def _order(pieces: Sequence[bytes], closing: bytes) -> NDArray[np.int64]:
    """Token ids by how soon they are likely to end a reply: closing marks, digits, other single bytes, longer pieces."""

    def rank(piece: bytes) -> tuple[int, int, bytes]:
        if len(piece) == 1:
            at = closing.find(piece)
            return (0, at, b"") if at >= 0 else (1 if piece.isdigit() else 2 if not piece.isalpha() else 3, 1, piece)
        return (4, len(piece), piece)

    return np.array(sorted((t for t in range(len(pieces)) if pieces[t]), key=lambda t: (rank(pieces[t]), t)), np.int64)


def _unpacked(bits: NDArray[np.uint8], vocab: int) -> NDArray[np.bool_]:
    """uint8[n, bytes], lowest bit first -> bool[n, vocab]."""
    return np.unpackbits(bits, axis=1, bitorder="little", count=vocab).view(np.bool_)


class _Row:
    """One reply: its matcher, and a way to its end that stands at every step (None where none was found)."""

    def __init__(self, grammars: Grammars, grammar: Grammar) -> None:
        self.grammars, self.matcher, self.end = grammars, grammar.matcher.deep_copy(), grammar.shortest

    def led(self, left: int) -> int | None:
        """The only token that may come now, with `left` tokens to go; None where the grammar alone decides."""
        return self.end[0] if self.end and len(self.end) >= left else None

    def take(self, token: int, left: int) -> bool:
        """Goes on with the token drawn when `left` were left; False, and nothing changed, where it would leave too few to end."""
        self.matcher.consume_token(token)
        if self.end is None or token in self.grammars.eos:
            return True
        if token == self.end[0]:
            self.end = self.end[1:]
        elif len(self.end) >= left or self.matcher.validate_tokens(self.end) < len(self.end):  # inside of a text the old way may still end it
            end = self.grammars.ending(self.matcher, min(left - 1, _LONGEST_END))
            if end is None and left <= _LONGEST_END:
                self.matcher.rollback(1)
                return False
            self.end = end
        return True


class Masks:
    """The structured rows of one batch, as the decode loop asks them. Rows are named by their number in the batch; others are never touched."""

    def __init__(self, grammars: Grammars, requests: Sequence[Request]) -> None:
        """Every structure has been found to be one that can be followed (`Grammars.compiled`)."""
        self.vocab, self.held = grammars.vocab, np.array([r.structured is not None for r in requests])
        compiled = ((i, grammars.compiled(r.structured)) for i, r in enumerate(requests) if r.structured is not None)
        self.rows = {i: _Row(grammars, grammar) for i, grammar in compiled if isinstance(grammar, Grammar)}

    def forbid(self, logits: Tensor, places: NDArray[np.int64], rows: NDArray[np.int64], left: NDArray[np.int64]) -> None:
        """Sets logits [n, v] at `places` to -inf where the rows there (numbers `rows`, each with `left` tokens to go) may not go on."""
        bits = np.zeros((len(rows), -(-self.vocab // 32)), np.int32)
        for bit, row, to_go in zip(bits, rows.tolist(), left.tolist()):
            state = self.rows[row]
            if (only := state.led(to_go)) is None:
                state.matcher.unsafe_compute_mask_ptr(bit.ctypes.data, bit.nbytes)
            else:
                bit.view(np.uint8)[only // 8] = 1 << only % 8
        at = torch.from_numpy(places).to(logits.device)
        forbidden = torch.from_numpy(~_unpacked(bits.view(np.uint8), self.vocab)).to(logits.device)
        logits[at] = logits[at].masked_fill(forbidden, -torch.inf)

    def take(self, rows: NDArray[np.int64], tokens: NDArray[np.int64], left: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which rows went on with their token; the others have to draw again without it."""
        return np.array([self.rows[r].take(t, n) for r, t, n in zip(rows.tolist(), tokens.tolist(), left.tolist())], bool)

    def withdraw(self, logits: Tensor, places: NDArray[np.int64], rows: NDArray[np.int64], tokens: NDArray[np.int64], again: int) -> None:
        """Forbids the tokens that these rows had to give back; a row that has done so too often may only take the way to its end."""
        for place, row, token in zip(places.tolist(), rows.tolist(), tokens.tolist()):
            end = self.rows[row].end
            if again > _TRIES and end:
                logits[place], logits[place, end[0]] = -torch.inf, 0.0
            else:
                logits[place, token] = -torch.inf

    def error(self, row: int) -> str:
        """Why a row left its grammar ("" where it didn't): a limit of the matcher was reached."""
        return "" if row not in self.rows else self.rows[row].matcher.get_error()
