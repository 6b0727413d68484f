"""The stage train_task on every task, what evaluate makes of its result, and its errors."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import write_dataset

from data.dataset import Dataset, DatasetError
from models.tasks import TASKS, TaskError, get_task
from pipeline import train_task
from pipeline.metrics import load_records, task_metrics
from pipeline.metrics.evaluation import evaluate
from pipeline.running.atomic_outputs import WORK
from pipeline.tracking import streaming as tracking

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries behind the tasks
ROOT = Path(__file__).parents[1]
SECTIONS = {
    "detection": "{image_size: 64, epochs: 1, batch: 4}",
    "instance-segmentation": "{image_size: 64, epochs: 1, batch: 4}",
    "segmentation": "{encoder: tu-mobilenetv3_small_050, steps: 2, batch: 2, crop: 32}",
    "classification": "{model: resnet10t, image_size: 32, steps: 2, batch: 2}",
}
FROZEN = {
    "detection": "{weights: out, frozen: true, image_size: 64}",
    "instance-segmentation": "{weights: out, frozen: true, image_size: 64}",
    "segmentation": "{weights: out, frozen: true}",
    "classification": "{weights: out, frozen: true}",
}


@contextmanager
def _no_stream(*_: Any, **__: Any) -> Iterator[Callable[..., None]]:
    yield lambda step, values: None


@contextmanager
def _project(folder: Path) -> Iterator[Callable[..., None]]:
    """Runs the stage in a new project in this folder: (task, its section as YAML, output folder)."""
    write_dataset(folder)
    (folder / "plan.json").write_text("{}")
    for name in ("pipeline", "models", "data"):
        (folder / name).symlink_to(ROOT / name)  # whose code the checkpoint's name is made from
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(tracking, "live", _no_stream)

        def run(task: str, section: str, out: str = "out") -> None:
            text = (ROOT / "params.tiny.yaml").read_text().split("train_task:", 1)
            rest = text[1][text[1].index("\nlosses:") :]
            Path("params.yaml").write_text(f"{text[0]}train_task:\n  {task}: {section}\n{rest}")
            words = f"stage --task {task} --plan plan.json --clean clean --out {out} --costs costs.json"
            patch.setattr("sys.argv", words.split())
            train_task.main()

        yield run


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Runs the stage in a project of its own."""
    with _project(tmp_path) as run:
        yield run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Trains a task once for all tests; returns the project's folder, with the network in `out`."""

    def train(task: str) -> Path:
        folder = tmp_path_factory.mktemp(task)
        with _project(folder) as run:
            run(task, SECTIONS[task])
        return folder

    return cache(train)


def _costs(folder: Path) -> dict[str, float]:
    costs: dict[str, float] = json.loads((folder / "costs.json").read_text())
    return costs


def test_the_tasks_exist() -> None:
    assert set(SECTIONS) == set(FROZEN) <= set(TASKS)


@pytest.mark.parametrize("name", SECTIONS)
def test_trained_then_frozen_elsewhere_then_evaluated(
    name: str, trained: Callable[[str], Path], stage: Callable[..., None]
) -> None:
    costs = _costs(trained(name))
    assert costs["training_seconds"] > 0 and costs["parameters"] > 1000
    assert [path for path in (trained(name) / WORK).rglob("*") if path.is_file()] == []
    shutil.copytree(trained(name) / "out", "out")
    stage(name, FROZEN[name], "again")
    assert _costs(Path())["training_seconds"] == 0
    split = Dataset.open(Path("clean")).split("test")
    for folder in ("out", "again"):
        task = get_task(name).load(Path(folder), torch.device("cpu"))
        evaluate(task, split, split.image, Path("evaluated") / folder, "test")
    first, second = (load_records(Path("evaluated") / folder / "records.npz").metrics() for folder in ("out", "again"))
    assert list(first) == [metric.name for metric in task_metrics(name)] and first == second
    predictions = [sorted((Path("evaluated") / folder / "predictions").iterdir()) for folder in ("out", "again")]
    assert [path.read_bytes() for path in predictions[0]] == [path.read_bytes() for path in predictions[1]]


@pytest.mark.parametrize("name", SECTIONS)
def test_data_without_classes_for_the_task(name: str, stage: Callable[..., None]) -> None:
    path = Path("clean/dataset.json")
    info = json.loads(path.read_text())
    del info["classes"][name]
    path.write_text(json.dumps(info))
    with pytest.raises(DatasetError, match=f"'clean' has no labels for {name}, only for .*. Remove {name} from tasks"):
        stage(name, SECTIONS[name])
    assert not Path("out").exists()


@pytest.mark.parametrize("name", SECTIONS)
def test_frozen_classes_that_do_not_match_leave_nothing(
    name: str, trained: Callable[[str], Path], stage: Callable[..., None]
) -> None:
    shutil.copytree(trained(name) / "out", "out")
    path = Path("clean/dataset.json")
    path.write_text(path.read_text().replace('"bar"', '"lorry"'))
    with pytest.raises(TaskError, match=r"does not know 'lorry'; it has: .*bar; the data have: .*lorry"):
        stage(name, FROZEN[name], "again")
    assert not Path("again").exists()
