"""Who holds a slide, and whether that process still lives: it tells host and process, and beats."""

import os
import socket
import time
from contextlib import suppress

BEAT_S = 5.0
STALE_S = 120.0
"""A claimer that was silent for so long is dead, wherever it is: it beats every ``BEAT_S``."""


def is_dead(host: str, pid: int, heartbeat: float) -> bool:
    """Whether a claimer is gone: silent for too long, or a process of this host that is not there."""
    if time.time() - heartbeat > STALE_S:
        return True
    if host != here():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # there, and another user's
        pass
    return False


def here() -> str:
    """This host, and the room of process ids on it: a container has its own."""
    with suppress(OSError):
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()
