"""What the machine refuses (disk, rights, memory), told from mistakes in the code. Not a stage."""

import errno
from collections.abc import Iterator

AGAIN = "then run `uv run dvc repro` again: what is finished stays finished"
SPACE = f"free some space, {AGAIN}"
REFUSALS = {
    errno.ENOSPC: SPACE,
    errno.EDQUOT: SPACE,
    errno.EFBIG: f"raise the limit of file sizes (ulimit -f), {AGAIN}",
    errno.EROFS: f"make it writable, or work in a copy that is, {AGAIN}",
    errno.EACCES: f"give yourself the rights, {AGAIN}",
    errno.EPERM: f"give yourself the rights, {AGAIN}",
    errno.EIO: "the disk, or the network behind it, has failed",
    errno.EMFILE: f"raise the limit of open files (ulimit -n), {AGAIN}",
    errno.ENFILE: f"close other programs, {AGAIN}",
    errno.ENOMEM: f"lower batch or crop in params.yaml, or free memory, {AGAIN}",
}
# Libraries that write by themselves tell it in words: safetensors, sqlite and torch, whose message names no reason.
WORDS = {
    "no space left on device": ("no space left on device", REFUSALS[errno.ENOSPC]),
    "database or disk is full": ("no space left on device", REFUSALS[errno.ENOSPC]),
    "pytorchstreamwriter failed": ("a checkpoint could not be written", SPACE),
    "unexpected pos": ("a checkpoint could not be written", SPACE),
    "file too large": ("file too large", REFUSALS[errno.EFBIG]),
    "read-only file system": ("read-only file system", REFUSALS[errno.EROFS]),
    "unable to open database file": ("a database cannot be opened", REFUSALS[errno.EROFS]),
    "readonly database": ("a database is read-only", REFUSALS[errno.EROFS]),
    "can't allocate memory": ("not enough memory", REFUSALS[errno.ENOMEM]),
    "out of memory": ("not enough memory", REFUSALS[errno.ENOMEM]),
}
WORKERS = ("TerminatedWorkerError", "BrokenProcessPool")


def refusal(error: BaseException) -> str | None:
    """What the machine refused and what to do, in one line; None where the error is something else.

    Args:
        error: with whatever it was raised from.
    """
    for one in _chain(error):
        if isinstance(one, OSError) and one.errno in REFUSALS:
            place = f"{one.filename}: " if one.filename is not None else ""
            return f"{place}{(one.strerror or str(one)).lower()}; {REFUSALS[one.errno]}"
        if isinstance(one, MemoryError):
            return f"not enough memory; {REFUSALS[errno.ENOMEM]}"
        if type(one).__name__ in WORKERS:
            return f"a worker process was killed, most likely for lack of memory; free memory, {AGAIN}"
        if not isinstance(one, OSError):
            text = str(one).lower()
            for words, (reason, advice) in WORDS.items():
                if words in text:
                    return f"{reason}; {advice}"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
