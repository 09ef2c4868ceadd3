"""Keep freed memory for the next iteration, as the allocators of GPUs do."""

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt(3)
_LARGEST = 32 * 2**20  # bytes; glibc takes no more


def keep_freed_memory() -> None:
    """Have glibc keep what is freed, in blocks of up to 32 MiB; elsewhere do nothing.

    It would give large blocks back to the system at once, and get them again, zeroed page by page, a moment later: a
    seventh of the time of a small ESRGAN's iteration on the CPU (docs/benchmarks.md).
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_MMAP_THRESHOLD, _LARGEST)
