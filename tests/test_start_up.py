"""Stages that run no network start without the libraries of networks, whose imports take seconds."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "torchvision", "diffusers", "ultralytics", "timm", "spandrel", "mlflow", "matplotlib", "skimage"}
STAGES = ("code", "plan", "prepare", "degrade", "objective", "report", "publish")
# Prints, for each stage, which of the libraries it has imported that no stage before it has.
SCRIPT = """
import sys
from importlib import import_module
heavy, stages = (text.split(",") for text in sys.argv[1:])
seen = set()
for stage in stages:
    import_module(f"pipeline.{stage}")
    new = {name for name in heavy if name in sys.modules} - seen
    seen |= new
    print(stage, *new)
"""


def test_stages_without_networks_import_none_of_their_libraries() -> None:
    command = [sys.executable, "-c", SCRIPT, ",".join(HEAVY), ",".join(STAGES)]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines == list(STAGES)


COUNT_OPERATIONS = """
import torch
from pipeline.running.costs import gflops
assert gflops(lambda: torch.nn.Conv2d(3, 3, 3)(torch.zeros(1, 3, 8, 8))) > 0
"""


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        (COUNT_OPERATIONS, "torch._dynamo"),
        ("import pipeline.tracking.served_restorer", "torch"),  # which MLflow runs to log a model
    ],
    ids=["operations", "a logged model"],
)
def test_slow_imports_that_are_not_needed(code: str, absent: str) -> None:
    command = [sys.executable, "-c", f"{code}\nimport sys; sys.exit({absent!r} in sys.modules)"]
    subprocess.run(command, cwd=ROOT, check=True)


def test_plan_finds_unknown_names_before_it_imports_torch() -> None:
    script = (
        "import sys; from pathlib import Path; from pipeline.plan import check_names; "
        "from pipeline.settings.params import load_params; params = load_params(Path('params.yaml'));\n"
        "for change in ({'tasks': ['sight']}, {'degradations': ['smog']}, {'objectives': ['pixel + glue']}):\n"
        "    try: check_names(params.model_copy(update=change))\n"
        "    except ValueError as error: print(error)\n"
        "print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", script]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert ["sight" in lines[0], "smog" in lines[1], "glue" in lines[2]] == [True] * 3
    assert lines[3] == "False"
