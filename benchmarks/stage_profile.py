"""Runs a stage and writes what its processor time was spent on.

    python -m benchmarks.stage_profile OUT MODULE ARGUMENTS...

A timer interrupts the stage every few milliseconds of processor time. The time since the last interruption counts for
the innermost function of the call stack that belongs to a group in `GROUPS`. Other processes count as one group.
"""

import json
import os
import resource
import runpy
import signal
import sys
import time
from collections import defaultdict
from pathlib import Path
from types import FrameType

INTERVAL = 0.005  # seconds of processor time between two samples
IMPORTS, REST, PROCESSES = "start-up, imports", "rest", "other processes"
# Parts of a function's file and name, "<path>:<name>", for each group. The innermost function that fits decides.
GROUPS: dict[str, tuple[str, ...]] = {
    "reading": ("data/images.py:read_", "data/images.py:_decode", "/safetensors/torch.py:load", "cv2/:imread"),
    "writing": (
        "data/images.py:write_",
        "/safetensors/torch.py:save",
        "pipeline/running/atomic_outputs.py:",
        "shutil.py:",
    ),
    "batches": ("data/batches.py:", "/albumentations/", "/ultralytics/data/"),
    "images": ("data/degradations/", "data/sources/"),
    "network": (
        "/torch/nn/",
        "/torch/autograd/",
        "/torch/_tensor.py:backward",
        "/torch/functional.py:",
        "/ultralytics/",
        "/diffusers/",
        "/spandrel",
        "models/",
    ),
    "optimiser": ("/torch/optim/", "/torch/nn/utils/clip_grad.py", "/diffusers/training_utils.py"),
    "metrics": ("pipeline/metrics/", "pipeline/statistics/", "/skimage/", "/faster_coco_eval/", "/scipy/"),
    "report": ("pipeline/reporting/", "/matplotlib/"),
    "tracking": ("pipeline/tracking/", "/mlflow/", "/sqlalchemy/"),
    "digests": ("pipeline/running/digests.py:",),
}
IMPORT_FILE = "<frozen importlib._bootstrap>"


class Sampler:
    """Adds up processor time by group while it runs."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(
            float, {IMPORTS: time.process_time()}
        )  # so far, the interpreter's start
        self._groups: dict[str, str | None] = {}  # of "<path>:<name>"
        self._before = time.process_time()

    def start(self) -> None:
        """Interrupt this process regularly."""
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)

    def stop(self) -> dict[str, float]:
        """Seconds by group, with those of ended child processes."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        self.seconds[REST] += time.process_time() - self._before
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.seconds[PROCESSES] += children.ru_utime + children.ru_stime
        return dict(self.seconds)

    def _sample(self, signum: int, frame: FrameType | None) -> None:
        now = time.process_time()
        self.seconds[self._group(frame)] += now - self._before
        self._before = now

    def _group(self, frame: FrameType | None) -> str:
        group = None
        while frame is not None:
            code = frame.f_code
            if code.co_filename == IMPORT_FILE:
                return IMPORTS
            name = f"{code.co_filename}:{code.co_name}"
            if name not in self._groups:
                self._groups[name] = _group_of(name)
            group = group or self._groups[name]
            frame = frame.f_back
        return group or REST


def _group_of(name: str) -> str | None:
    return next((group for group, parts in GROUPS.items() if any(part in name for part in parts)), None)


def main() -> None:
    """Run the module as `python -m` does."""
    out, module, *arguments = sys.argv[1:]
    sampler, process = Sampler(), os.getpid()
    sys.argv = [module, *arguments]
    sampler.start()
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        if os.getpid() == process:
            Path(out).write_text(json.dumps(sampler.stop()))


if __name__ == "__main__":
    main()
