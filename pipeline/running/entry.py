"""The entry point of stages and commands: quiet libraries, signals, one-line errors, options."""

import argparse
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from pipeline import INTERRUPTED, STARTED
from pipeline.running.system_errors import system_error

OUR_PACKAGES = {"data", "models", "pipeline", "__main__"}  # a stage is __main__ itself
CODE = Path("artifacts/code")  # what the stage `code` writes
AFTER_A_CHANGE = "Run `dvc repro` again, or `dvc repro -s code` before `dvc repro -s STAGE`."
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
FOLDERS = {"YOLO_CONFIG_DIR": "ultralytics", "MPLCONFIGDIR": "matplotlib"}  # their settings, below .cache


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage's main and print its duration. Errors of this project and of the system become one line.

    All other errors are bugs and keep their traceback.
    """

    def timed() -> None:
        main()
        if (stage := os.environ.get("DVC_STAGE")) and "LOCAL_RANK" not in os.environ:
            print(f"{stage.rpartition(':')[2]}: {duration(time.perf_counter() - STARTED)}")

    _run(timed)


def duration(seconds: float) -> str:
    """Such as "12 s" or "3 min 5 s"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _run(main: Callable[[], None]) -> None:
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # a shell sets it for background jobs
        signal.signal(signal.SIGINT, signal.default_int_handler)  # `pipeline` has set another one for imports
    try:
        quieten()
        _check_code()
        main()
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        text = one_line(error)
        if text is None:
            raise
        sys.exit(f"error: {text}")


def one_line(error: Exception) -> str | None:
    """The message of an error of this project or of the operating system, in one line; None for a bug."""
    ours = type(error).__module__.split(".")[0] in OUR_PACKAGES
    text = str(error) if ours else system_error(error)
    return None if text is None else " ".join(text.split())


def parse_arguments(*names: str) -> argparse.Namespace:
    """The values of these options, as text; all are required."""
    parser = argparse.ArgumentParser()
    for name in names:
        parser.add_argument(f"--{name}", required=True)
    return parser.parse_args()


def project_root() -> Path:
    """The project's folder, also when DVC runs an experiment in a temporary copy of it."""
    return Path(os.environ.get("DVC_ROOT", Path.cwd()))


def quieten() -> None:
    """Keep libraries quiet and offline. Variables that the environment sets already stay."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for name, folder in FOLDERS.items():
        os.environ.setdefault(name, str(project_root() / ".cache" / folder))
    (project_root() / ".cache" / "ultralytics").mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)


def _check_code() -> None:
    """Stop if the code has changed since the stage `code` ran: DVC would take the outputs for those of the old code.

    Raises:
        pipeline.running.atomic_outputs.StageFileError: it has.
    """
    stage = Path(sys.argv[0]).stem
    recorded = CODE / "stages" / stage
    if "DVC_STAGE" in os.environ and stage != "code" and recorded.exists():
        from pipeline.running.atomic_outputs import StageFileError
        from pipeline.running.digests import stage_digest

        if recorded.read_text(encoding="utf-8").strip() != stage_digest(stage):
            raise StageFileError(f"{recorded}: the code has changed since this file was written. {AFTER_A_CHANGE}")


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(TERMINATED)


def run_command(main: Callable[[], None]) -> None:
    """Run the main of a command that a person runs beside DVC, with the errors of `run_stage`."""

    def run() -> None:
        try:
            main()
        except KeyboardInterrupt:
            sys.exit("interrupted: the same command continues, or starts again")

    _run(run)
