"""Memory that a process has freed and the C library keeps."""

import ctypes
import functools
import platform
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_GREATEST = 2**31 - 1

_SMALL = 128 * 2**10
"""What glibc begins with, before it learns to keep larger blocks."""

FOR_STEPS = 32 * 2**20
"""What training keeps, the most that glibc takes."""

FOR_PASSES = 4 * 2**20
"""What sampling keeps: with 8 MiB it took up to a twentieth more memory in the same time, with 2 a little less memory
and up to an eighth more time."""


def give_back_memory() -> None:
    """Returns freed memory to the system, where the C library has the call for it (glibc)."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


def keep_freed_memory(largest: int) -> None:
    """Has glibc keep freed blocks of up to `largest` bytes for the next step or pass, for the rest of the process.

    By default many go back to the system after each, and come again page by page in the next: a fifth of a training
    step on two cores, up to a twentieth of a network's pass. Larger ones go back whole, and so leave no gaps in which
    nothing else fits. See mallopt(3). With another C library nothing is done.

    Args:
        largest: `FOR_STEPS` or `FOR_PASSES`.
    """
    _set_thresholds(trim=_GREATEST, mmap=largest)


def return_freed_memory() -> None:
    """Has glibc return to the system what is freed from now on, all but small blocks, until it is asked to keep them.

    For what comes while weights are loaded and in a network's first pass: weights that are replaced one by one, and
    what libraries make once and keep, between activations that do not stay, whose places would be gaps. Left alone,
    glibc would learn to keep them; for longer than a pass this is slow.
    """
    _set_thresholds(trim=_SMALL, mmap=_SMALL)


def _set_thresholds(*, trim: int, mmap: int) -> None:
    if _is_glibc():
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, trim)
        libc.mallopt(_M_MMAP_THRESHOLD, mmap)


@functools.cache
def _is_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
