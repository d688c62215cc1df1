"""Does a verifier execute what it is given? Payloads that would leave a file behind, and an ear on the interpreter's own audit events.

Why: verl's and PRIME's math graders `eval` predictions, 9 of 13 tried reasoning-gym scorers executed the answer (reference/verifiers.md).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import Any

_listening: dict[int, tuple[str, list[str]]] = {}
_installed = False


def payloads(canary: Path) -> tuple[str, ...]:
    """Responses that make the file `canary` where something evaluates, interprets, renders or loads them."""
    file = str(canary)
    touch = f'__import__("pathlib").Path("{file}").touch()'
    texts = (
        touch,
        f'open("{file}","w")#\\pi',
        f'[open("{file}","w")]',
        f'\\begin{{pmatrix}}{touch}\\end{{pmatrix}}',
        f"(lambda: {touch})()",
        f'f"{{{touch}}}"',
        f"1+({touch} or 1)",
        f"x; import os; os.system('touch {file}')",
        f"$(touch {file})",
        f"`touch {file}`",
        f"| touch {file}",
        f"{{{{ cycler.__init__.__globals__.os.popen('touch {file}').read() }}}}",
        f"!!python/object/apply:os.system ['touch {file}']",
        f"cos\nsystem\n(S'touch {file}'\ntR.",
        f"ATTACH DATABASE '{file}' AS x",
        f"SELECT writefile('{file}', 'x')",
    )
    wrapped = [form.format(text) for text in texts for form in ("{}", "\\boxed{{{}}}", "<answer>{}</answer>", "#### {}")]
    return (*wrapped, f"```sql\nVACUUM INTO '{file}'\n```", f"```python\n{touch}\n```")


@contextmanager
def canary_file() -> Iterator[Path]:
    """A path that does not exist; whoever makes it has executed a payload."""
    with tempfile.TemporaryDirectory(prefix="synth-audit-") as folder:
        yield Path(folder) / "canary"


@contextmanager
def executions(canary: Path) -> Iterator[list[str]]:
    """Code that this thread runs from source text made at run time (`eval`, `exec`) and that names `canary`, by audit events (PEP 578)."""
    global _installed
    if not _installed:
        sys.addaudithook(_hear)
        _installed = True
    heard: list[str] = []
    _listening[get_ident()] = (str(canary), heard)
    try:
        yield heard
    finally:
        _listening.pop(get_ident(), None)


def _hear(event: str, args: tuple[Any, ...]) -> None:
    if event == "exec" and _listening and (listener := _listening.get(get_ident())) is not None and _names(args[0], listener[0]):
        listener[1].append(f"code of {args[0].co_filename}")


def _names(code: Any, word: str) -> bool:
    constants = getattr(code, "co_consts", ())
    return any(word in c if isinstance(c, str) else hasattr(c, "co_consts") and _names(c, word) for c in constants)
