"""Puts the interpreter's own machine code on huge pages, where the host has them: then a forked process finds all of it in place.

Code lies in the page cache, which a fork does not enter in the child: each of some forty stretches that a job runs through would cost it a fault, and
its end an unmapping, page by page. Copied to an anonymous huge page, two entries do for all. What is copied is what was mapped, still read-only;
the exchange is one system call. Only for speed: whatever is missing (x86-64, Linux 6.1 for MADV_COLLAPSE, a free huge page), nothing changes.
Stands alone (standard library and ctypes only): it is loaded in the zygote.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator

HUGE, PAGE = 2 << 20, 4096
PT_LOAD, PF_W, PF_X = 1, 2, 1
PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
MAP_PRIVATE, MAP_ANONYMOUS, MREMAP_MAYMOVE, MREMAP_FIXED = 2, 32, 1, 2
MADV_HUGEPAGE, MADV_COLLAPSE = 14, 25


class _Segment(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("offset", ctypes.c_uint64),
        ("address", ctypes.c_uint64),
        ("physical", ctypes.c_uint64),
        ("in_file", ctypes.c_uint64),
        ("in_memory", ctypes.c_uint64),
        ("align", ctypes.c_uint64),
    ]


class _Loaded(ctypes.Structure):  # the start of struct dl_phdr_info
    _fields_ = [("base", ctypes.c_uint64), ("name", ctypes.c_char_p), ("segments", ctypes.POINTER(_Segment)), ("count", ctypes.c_uint16)]


def read_only_stretches() -> list[tuple[int, int]]:
    """(from, to) of the code and constants of each loaded file: what is mapped without a gap and never written."""
    found: list[tuple[int, int]] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Loaded), ctypes.c_size_t, ctypes.c_void_p)
    def look(loaded: ctypes._Pointer[_Loaded], size: int, data: int | None) -> int:
        start = end = 0
        code = False
        for i in range(loaded.contents.count):
            segment = loaded.contents.segments[i]
            if segment.type != PT_LOAD:
                continue
            first = loaded.contents.base + segment.address
            last = -(-(first + segment.in_memory) // PAGE) * PAGE
            first = first // PAGE * PAGE
            if segment.flags & PF_W or first != end:
                if code:
                    found.append((start, end))
                start, code = first, False
            end = last
            code = (code or bool(segment.flags & PF_X)) and not segment.flags & PF_W
        if code:
            found.append((start, end))
        return 0

    ctypes.CDLL(None).dl_iterate_phdr(look, None)
    return found


def aligned(stretches: list[tuple[int, int]]) -> Iterator[int]:
    for start, end in stretches:
        yield from range(-(-start // HUGE) * HUGE, end - HUGE + 1, HUGE)


def put_code_on_huge_pages() -> int:
    """How many pages were exchanged."""
    if os.uname().machine != "x86_64":
        return 0  # elsewhere caches of instructions would have to be told
    return sum(_exchange(at) for at in list(aligned(read_only_stretches())))


def _exchange(at: int) -> bool:
    libc = ctypes.CDLL(None)
    address, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    libc.mmap.restype = libc.mremap.restype = address
    libc.mmap.argtypes = [address, size, number, number, number, ctypes.c_long]
    libc.mremap.argtypes = [address, size, size, number, address]
    libc.munmap.argtypes = [address, size]
    libc.madvise.argtypes = libc.mprotect.argtypes = [address, size, number]
    failed = address(-1).value
    room = libc.mmap(None, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    if room == failed:
        return False
    copy = -(-room // HUGE) * HUGE
    libc.madvise(copy, HUGE, MADV_HUGEPAGE)
    ctypes.memmove(copy, at, HUGE)
    done = (
        libc.madvise(copy, HUGE, MADV_COLLAPSE) == 0
        and libc.mprotect(copy, HUGE, PROT_READ | PROT_EXEC) == 0
        and libc.mremap(copy, HUGE, HUGE, MREMAP_MAYMOVE | MREMAP_FIXED, at) == at
    )
    if not done or copy > room:
        libc.munmap(room, copy - room if done else 2 * HUGE)
    if done and copy < room + HUGE:
        libc.munmap(copy + HUGE, room + HUGE - copy)
    return done
