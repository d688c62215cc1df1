"""Hugging Face data sets: a folder that `save_to_disk` wrote, or hf:NAME from the hub (or its cache), through `datasets`.

Nothing is downloaded unless the user names an hf: data set, and no code of a data set is ever run.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import UserError
from data.problems.columnar import BATCH, plain_rows
from data.problems.source import HUB, Source

if TYPE_CHECKING:
    from datasets import Dataset


def is_saved(source: Source) -> bool:
    return any((source.file / name).is_file() for name in ("state.json", "dataset_dict.json"))


def read_dataset(source: Source, columns: Collection[str] | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, row) of every row of one split; Arrow batches from disk, one in memory at a time."""
    data, name = open_dataset(source)
    wanted = [n for n in data.column_names if columns is None or n in columns]
    unread = dict.fromkeys(n for n in data.column_names if n not in wanted)
    row = 0
    try:
        for batch in data.select_columns(wanted).with_format("arrow").iter(BATCH):
            for values in plain_rows(batch):
                row += 1
                yield f"{name}, row {row}", {**values, **unread}
    except Exception as error:  # a damaged Arrow file raises whatever Arrow and datasets please
        raise UserError(f"{name}: breaks after row {row:,}: {_first_line(error)}; save or download it anew") from error


def open_dataset(source: Source) -> tuple[Dataset, str]:
    """The split's rows and how to call it."""
    import datasets

    datasets.disable_progress_bars()
    if source.on_hub:
        found = _from_hub(source)
    else:
        try:
            found = datasets.load_from_disk(source.path)
        except Exception as error:  # whatever a damaged folder raises
            raise UserError(f"{source.path}: a folder of datasets' save_to_disk, but damaged: {_first_line(error)}; save it anew") from error
    if isinstance(found, dict):
        split = choose_split(source, list(found))
        return found[split], f"{source.path} (split {split})"
    if source.split and source.split != str(found.split):
        raise UserError(f"{source.path}: has the one split {str(found.split or 'without a name')!r}, not {source.split!r}; leave @{source.split} out")
    return found, source.path


def choose_split(source: Source, splits: Sequence[str]) -> str:
    """The split asked for; else the only one, else the usual one (train; for a benchmark test)."""
    if source.split:
        if source.split in splits:
            return source.split
        near = difflib.get_close_matches(source.split, splits, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(splits)}"
        raise UserError(f"{source.path}: no split {source.split!r}; {hint}")
    if len(splits) == 1 or source.usual in splits:
        return source.usual if source.usual in splits else splits[0]
    raise UserError(f"{source.path}: which split? It has {', '.join(splits)}; write {source.path}@{splits[0]}")


def _from_hub(source: Source) -> Any:
    import datasets
    from datasets.exceptions import DatasetNotFoundError

    name, _, config = source.path.removeprefix(HUB).partition(":")
    try:
        with _cache_only(not Path(name).exists() and not _answers(name)):
            return datasets.load_dataset(name, config or None)
    except DatasetNotFoundError as error:
        if _unreachable(error):
            raise _offline(source) from error
        raise UserError(f"{source.path}: the hub has no such data set, or it is gated and you are not logged in; write hf:OWNER/NAME") from error
    except Exception as error:  # the hub, the network, the files: each has exceptions of its own
        if _unreachable(error):
            raise _offline(source) from error
        said = _first_line(error)
        if "Config name is missing" in str(error) or "BuilderConfig" in str(error):
            raise UserError(f"{source.path}: which configuration? write hf:{name}:CONFIG ({said})") from error
        raise UserError(f"{source.path}: cannot be loaded: {said}") from error


def _answers(name: str) -> bool:
    """Whether the hub can be reached: asked once and briefly, since `datasets` itself would try for half a minute."""
    import huggingface_hub

    try:
        huggingface_hub.HfApi().dataset_info(name, timeout=10)
    except Exception as error:  # noqa: BLE001 - anything but the network is for the loader itself to find and tell
        return not _unreachable(error)
    return True


@contextmanager
def _cache_only(wanted: bool) -> Iterator[None]:
    """While it lasts, data sets come from the local cache; the two libraries read this setting from their environment once."""
    import datasets
    import huggingface_hub

    places: tuple[Any, ...] = (datasets.config, huggingface_hub.constants) if wanted else ()
    before = [place.HF_HUB_OFFLINE for place in places]
    try:
        for place in places:
            place.HF_HUB_OFFLINE = True
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = value


def _offline(source: Source) -> UserError:
    return UserError(
        f"{source.path}: the Hugging Face hub cannot be reached from here and the data set is not in its cache; "
        "download it where there is a network, save it with save_to_disk, and give that folder"
    )


def _unreachable(error: BaseException | None) -> bool:
    """Whether somewhere in the chain of causes the network was what failed."""
    import socket

    names = ("ConnectionError", "ConnectError", "ConnectTimeout", "OfflineModeIsEnabled", "LocalEntryNotFoundError", "ReadTimeout", "Timeout")
    seen = 0
    while error is not None and seen < 10:
        if isinstance(error, (ConnectionError, TimeoutError, socket.gaierror)) or type(error).__name__ in names:
            return True
        if "Couldn't reach" in str(error):
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return False


def _first_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:199] + "…"
