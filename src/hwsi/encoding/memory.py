"""Memory of finished slides goes back to the system.

The arrays of a slide are freed when it is done, but glibc keeps freed memory in one arena per thread, for later: after
ten slides a process held 1.3 GB, of which 0.9 GB was in use by nobody.
"""

import ctypes
import sys
from functools import lru_cache
from typing import Any


@lru_cache(maxsize=1)
def _trim() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)  # another C library than glibc has none


def give_back() -> None:
    """Return freed memory to the system, where the C library can be asked to; a few milliseconds."""
    trim = _trim()
    if trim is not None:
        trim(0)
