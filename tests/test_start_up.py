"""Stages that run no network start without the libraries of networks, whose imports take seconds."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "torchvision", "diffusers", "ultralytics", "timm", "spandrel", "mlflow", "matplotlib", "skimage"}
STAGES = ("code", "plan", "prepare", "degrade", "objective", "report", "publish")
PRINT_MODULES = "import sys, pipeline.{0}; print(*sys.modules)"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_without_networks_imports_none_of_their_libraries(stage: str) -> None:
    command = [sys.executable, "-c", PRINT_MODULES.format(stage)]
    modules = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert f"pipeline.{stage}" in modules
    assert not HEAVY & set(modules)


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
