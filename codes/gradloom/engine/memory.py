"""The memory of this process: what is freed stays for the next iteration, and the most there was is known."""

import ctypes
import platform
import sys

import torch

if sys.platform != "win32":
    import resource

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


def most_bytes(device: torch.device) -> int | None:
    """The most bytes so far: of tensors on a CUDA device, elsewhere of this process in all; None where nobody counts.

    The latter is its resident size, with all libraries and whatever malloc keeps.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return None
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024
