"""What every stage process needs before and around its work: quiet libraries, signals, seeds, safe outputs."""

import argparse
import hashlib
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from pipeline import INTERRUPTED
from pipeline.surroundings import refusal

if TYPE_CHECKING:
    import torch

WORK = Path("work")  # scratch: half-written outputs and checkpoints of running trainings
OUR_PACKAGES = {"data", "models", "pipeline", "__main__"}  # a stage is __main__ itself
TERMINATED = 128 + signal.SIGTERM

QUIET = {
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "YOLO_OFFLINE": "true",
    "YOLO_AUTOINSTALL": "false",
    "YOLO_VERBOSE": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",  # it would draw from the random numbers that trainings use
    "GIT_PYTHON_REFRESH": "quiet",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # deterministic matrix products on a GPU
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run` it would upload the whole folder to the cluster
}
FOLDERS = {"YOLO_CONFIG_DIR": "ultralytics", "MPLCONFIGDIR": "matplotlib"}  # of settings, below .cache


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage's main: our own errors, and what the machine refuses, become one line.

    Everything else keeps its traceback.
    """
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # which a shell sets for what it runs in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the package has set its own while importing
    try:
        quieten()
        main()
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        ours = type(error).__module__.split(".")[0] in OUR_PACKAGES
        text = str(error) if ours else refusal(error)
        if text is None:
            raise
        sys.exit(f"error: {' '.join(text.split())}")


def arguments(*names: str) -> argparse.Namespace:
    """Parse required options; those that end in a path name become Path by the caller."""
    parser = argparse.ArgumentParser()
    for name in names:
        parser.add_argument(f"--{name}", required=True)
    return parser.parse_args()


def root() -> Path:
    """The project's root, also when DVC runs an experiment in a temporary copy of it."""
    return Path(os.environ.get("DVC_ROOT", Path.cwd()))


def device() -> "torch.device":
    """The GPU where there is one, with deterministic kernels."""
    import torch

    torch.use_deterministic_algorithms(True, warn_only=True)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seed_for(*parts: int | str) -> int:
    """A 63-bit seed from the run's seed and what it is for: independent streams, the same in any process."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a scratch path; what is written there replaces `path` at the end, or vanishes on an error."""
    name = hashlib.sha256(str(path).encode()).hexdigest()[:16]
    scratch = (WORK / "unfinished" / name / path.name).absolute()  # worker processes may have another folder
    _remove(scratch)
    scratch.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield scratch
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(path)
        scratch.rename(path)
    finally:
        _remove(scratch.parent)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """As `replacing`, with the scratch path made as a folder."""
    with replacing(path) as scratch:
        scratch.mkdir()
        yield scratch


@contextmanager
def resuming_folder(path: Path, identity: str) -> Iterator[Path]:
    """As `replacing_folder`, but a kill leaves the scratch folder as it was, and the same identity finds it again.

    Args:
        path: what the folder becomes.
        identity: a digest of everything that its content depends on. Folders left by others are removed.
    """
    name = hashlib.sha256(str(path).encode()).hexdigest()[:16]
    scratch = (WORK / "resumable" / name / identity).absolute()
    for other in scratch.parent.glob("*"):
        if other != scratch:
            _remove(other)
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        yield scratch
    except Exception:
        _remove(scratch.parent)
        raise
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove(path)
    scratch.rename(path)
    _remove(scratch.parent)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def quieten() -> None:
    """Settings that keep libraries quiet and offline; the environment's own come first."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for name, folder in FOLDERS.items():
        os.environ.setdefault(name, str(root() / ".cache" / folder))
    (root() / ".cache" / "ultralytics").mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(TERMINATED)
