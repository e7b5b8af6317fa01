"""Memory that a process has freed and the C library keeps."""

import ctypes
import sys


def give_back_memory() -> None:
    """Returns freed memory to the system, where the C library has the call for it (glibc)."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
