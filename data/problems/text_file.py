"""Bytes of a text file, plain or gzipped, line by line and never more than one line in memory."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from data.errors import UserError

MAX_LINE = 10_000_000  # bytes
MAX_WHOLE = 1_000_000_000  # bytes of a JSON document, which must be in memory as a whole
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_KINDS = {
    b"\x1f\x8b": "gzip data",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"PK\x03\x04": "a zip archive",
    b"BZh": "bzip2 data",
    b"\xfd7zXZ": "xz data",
    b"\x28\xb5\x2f\xfd": "zstd data",
    b"SQLite format": "an SQLite database",
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture",
}
"""first bytes of what is given by mistake"""


@contextmanager
def opened(file: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked where its name ends in .gz; whatever is wrong with the file becomes a UserError."""
    try:
        if file.is_dir():
            raise UserError(f"{file}: is a folder; give a file, or a folder that datasets' save_to_disk wrote")
        unpack: Callable[..., Any] = gzip.open if file.name.lower().endswith(".gz") else open
        with unpack(file, "rb") as stream:
            yield stream
    except FileNotFoundError:
        raise UserError(f"{file}: no such file") from None
    except PermissionError as error:
        raise UserError(f"{file}: no permission to read it; make it readable (chmod u+r)") from error
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(f"{file}: not a whole gzip file ({_why(error)}); compress it anew or give it unpacked") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read: {error}") from error


def _why(error: Exception) -> str:
    if isinstance(error, EOFError):
        return "it is cut off"
    return "it does not begin like one" if "Not a gzipped file" in str(error) else "it is damaged"


def read_lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, line) of a text file; a UTF-8 byte order mark is taken off, what is not text is refused."""
    number = 0
    try:
        with opened(file) as stream:
            while line := stream.readline(MAX_LINE + 1):
                number += 1
                if number == 1:
                    check_text(line, file)
                    line = line.removeprefix(codecs.BOM_UTF8)
                if len(line) > MAX_LINE:
                    raise UserError(f"{file}, line {number}: longer than {MAX_LINE:,} bytes; a problem must be on a line of its own")
                yield number, line
    except UserError as error:
        if "not a whole gzip file" in str(error) and number:
            raise UserError(f"{str(error).partition(' (')[0]} (it breaks after line {number}); compress it anew or give it unpacked") from error
        raise


def read_whole(file: Path) -> bytes:
    """The whole file, without a byte order mark."""
    with opened(file) as stream:
        body = stream.read(MAX_WHOLE + 1)
    if len(body) > MAX_WHOLE:
        raise UserError(f"{file}: larger than {MAX_WHOLE:,} bytes, and a JSON list must be read as a whole; give JSON Lines or Parquet")
    check_text(body, file)
    return body.removeprefix(codecs.BOM_UTF8)


def check_text(beginning: bytes, file: Path) -> None:
    """Refuses what is another kind of file, by its first bytes."""
    for mark, kind in _KINDS.items():
        if beginning.startswith(mark):
            ending = " (name it with .gz)" if kind == "gzip data" else " (name it .parquet)" if kind == "a Parquet file" else ""
            raise UserError(f"{file}: holds {kind} under another name{ending}; give JSON Lines, a JSON list, CSV or Parquet")
    if beginning.startswith(_UTF16) or (len(beginning) > 3 and b"\x00" in beginning[:4] and b"\x00\x00" not in beginning[:4]):
        raise UserError(f"{file}: is UTF-16 text; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)")
    if b"\x00" in beginning[:4096]:
        raise UserError(f"{file}: is not text (it holds NUL bytes); give JSON Lines, a JSON list, CSV or Parquet")


def decode(line: bytes, where: str) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8 (byte {error.start + 1}); save the file as UTF-8") from error
