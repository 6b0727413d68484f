"""Which processes are still alive. Not a stage."""

import os
import socket
from contextlib import suppress
from pathlib import Path


def this_process() -> str:
    """A name for this process that no other has."""
    return f"{socket.gethostname()}:{os.getpid()}:{_start_time(os.getpid())}"


def is_dead(process: str) -> bool:
    """Whether a process of this machine, by its name, is gone; of another machine's nothing is known."""
    host, _, rest = process.partition(":")
    pid, _, started = rest.partition(":")
    return host == socket.gethostname() and pid.isdigit() and _start_time(int(pid)) != started


def is_alive(process: str) -> bool:
    """Whether a process, by its name, runs on this machine; another machine's does not."""
    return process.partition(":")[0] == socket.gethostname() and not is_dead(process)


def _start_time(pid: int) -> str:
    """When a process started, so that a reused process id is not taken for it; '' where it is gone."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""
