"""What every stage process needs before and around its work: quiet libraries, signals, seeds, safe outputs."""

import argparse
import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from pipeline import INTERRUPTED
from pipeline.running.system_errors import refusal

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


def parse_arguments(*names: str) -> argparse.Namespace:
    """Parse required options; those that end in a path name become Path by the caller."""
    parser = argparse.ArgumentParser()
    for name in names:
        parser.add_argument(f"--{name}", required=True)
    return parser.parse_args()


def project_root() -> Path:
    """The project's project_root, also when DVC runs an experiment in a temporary copy of it."""
    return Path(os.environ.get("DVC_ROOT", Path.cwd()))


def quieten() -> None:
    """Settings that keep libraries quiet and offline; the environment's own come first."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for name, folder in FOLDERS.items():
        os.environ.setdefault(name, str(project_root() / ".cache" / folder))
    (project_root() / ".cache" / "ultralytics").mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(TERMINATED)


def run_command(main: Callable[[], None]) -> None:
    """As `run_stage`, for a command that DVC does not run."""

    def run() -> None:
        try:
            main()
        except KeyboardInterrupt:
            sys.exit("interrupted: the same command goes on from here, or starts again")

    run_stage(run)
