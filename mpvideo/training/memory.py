"""What a training asks of the C library."""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_GREATEST, _GREATEST_FOR_MMAP = 2**31 - 1, 32 * 2**20


def keep_freed_memory() -> None:
    """Has glibc keep what is freed for the next step, for the rest of the process; elsewhere nothing is done.

    By default it goes back to the system after each step, and comes again page by page in the next: a fifth of a step
    on two cores. See mallopt(3).
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, _GREATEST)
        libc.mallopt(_M_MMAP_THRESHOLD, _GREATEST_FOR_MMAP)
