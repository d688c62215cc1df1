"""Where problems lie: a file, a folder that `datasets` saved, or a data set of the Hugging Face hub; and what the user says about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from data.errors import UserError
from data.problems.mapping import check_map

HUB = "hf:"


@dataclass(frozen=True)
class Source:
    """`path`: FILE, FOLDER, or hf:NAME[:CONFIG]. `domain` is for rows that name none; `map` says which column holds which field."""

    path: str
    domain: str = ""
    map: Mapping[str, str] = field(default_factory=dict)
    split: str = ""  # which split of a `datasets` folder or of a hub data set; "" = the only one, or `usual`
    usual: str = "train"

    @property
    def on_hub(self) -> bool:
        return self.path.startswith(HUB)

    @property
    def file(self) -> Path:
        return Path(self.path)

    def __str__(self) -> str:
        return f"{self.path}@{self.split}" if self.split else self.path


def parse_source(text: str, fields: Mapping[str, str] | None = None) -> Source:
    """`[DOMAIN=]PATH[@SPLIT]`, as the command line and plain strings in a recipe write it.

    A path that exists is taken as it is, whatever signs it holds.
    """
    domain, path, split = "", text.strip(), ""
    if not path:
        raise UserError("--problems: an empty name; give a file, a folder saved by datasets, or hf:NAME")
    if not _exists(path):
        before, sign, after = path.partition("=")
        if sign and not before.startswith(HUB) and "/" not in before:
            domain, path = before.strip(), after.strip()
        if not _exists(path) and "@" in path:
            path, _, split = path.rpartition("@")
    if not path or path == HUB:
        raise UserError(f"--problems {text}: names no file; write FILE, DOMAIN=FILE or hf:NAME")
    return Source(path, domain, check_map(dict(fields or {})), split)


def parse_sources(texts: Sequence[str], fields: Mapping[str, str] | None = None) -> list[Source]:
    return [parse_source(text, fields) for text in texts]


def absolute(source: Source) -> Source:
    """The same source, found from any folder."""
    return source if source.on_hub else replace(source, path=str(Path(source.path).resolve()))


def check_exists(source: Source) -> None:
    """UserError where there is nothing at the path; the hub is not asked."""
    if not source.on_hub and not _exists(source.path):
        raise UserError(f"{source.path}: no such file{_near(source.file)}")


def _near(file: Path) -> str:
    """A file of the same folder whose name is much alike."""
    import difflib

    try:
        names = [p.name for p in file.parent.iterdir()]
    except OSError:
        return f" (there is no folder {file.parent} either)" if not _exists(str(file.parent)) else ""
    near = difflib.get_close_matches(file.name, names, n=1, cutoff=0.75)
    return f"; did you mean {near[0]}?" if near else ""


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except PermissionError:
        return True  # there may be; whoever opens it says what is wrong
    except (OSError, ValueError):  # a name too long, a NUL
        return False
