"""Operating-system errors (full disk, missing permission, lack of memory) as one line with advice."""

import errno
from collections.abc import Iterator

AGAIN = "Then run `uv run dvc repro` again; finished stages are kept."
FREE_SPACE = f"Free some disk space. {AGAIN}"
PERMISSION = f"Change its permissions. {AGAIN}"
ADVICE = {
    errno.ENOSPC: FREE_SPACE,
    errno.EDQUOT: FREE_SPACE,
    errno.EFBIG: f"Raise the limit of file sizes (ulimit -f). {AGAIN}",
    errno.EROFS: f"Make it writable, or work in a copy that is. {AGAIN}",
    errno.EACCES: PERMISSION,
    errno.EPERM: PERMISSION,
    errno.EIO: "Check the disk, or the network file system.",
    errno.EMFILE: f"Raise the limit of open files (ulimit -n). {AGAIN}",
    errno.ENFILE: f"Close other programs. {AGAIN}",
    errno.ENOMEM: f"Lower batch or crop in params.yaml, or free memory. {AGAIN}",
}
# Libraries with other exceptions than OSError, by words of their messages: safetensors, sqlite, torch.
MESSAGES = {
    "no space left on device": ("no space left on device", FREE_SPACE),
    "database or disk is full": ("no space left on device", FREE_SPACE),
    "pytorchstreamwriter failed": ("a checkpoint could not be written", FREE_SPACE),
    "unexpected pos": ("a checkpoint could not be written", FREE_SPACE),
    "file too large": ("file too large", ADVICE[errno.EFBIG]),
    "read-only file system": ("read-only file system", ADVICE[errno.EROFS]),
    "unable to open database file": ("a database cannot be opened", ADVICE[errno.EROFS]),
    "readonly database": ("a database is read-only", ADVICE[errno.EROFS]),
    "can't allocate memory": ("not enough memory", ADVICE[errno.ENOMEM]),
    "out of memory": ("not enough memory", ADVICE[errno.ENOMEM]),
}
DEAD_WORKER = ("TerminatedWorkerError", "BrokenProcessPool")  # exceptions of joblib and concurrent.futures


def system_error(error: BaseException) -> str | None:
    """The message of an operating-system error and what to do, in one line; None for other errors.

    Args:
        error: also the errors that it was raised from are searched.
    """
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.errno in ADVICE:
            place = f"{cause.filename}: " if cause.filename is not None else ""
            return f"{place}{(cause.strerror or str(cause)).lower()}. {ADVICE[cause.errno]}"
        if isinstance(cause, MemoryError):
            return f"not enough memory. {ADVICE[errno.ENOMEM]}"
        if type(cause).__name__ in DEAD_WORKER:
            return f"a worker process was killed, probably for lack of memory. Free memory. {AGAIN}"
        if not isinstance(cause, OSError):
            text = str(cause).lower()
            for words, (reason, advice) in MESSAGES.items():
                if words in text:
                    return f"{reason}. {advice}"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
