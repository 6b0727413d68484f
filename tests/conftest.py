import gc
import os
import tempfile

_SCRATCH = tempfile.mkdtemp(prefix="restoration-tests-")
os.environ["YOLO_CONFIG_DIR"] = _SCRATCH
os.environ["MPLCONFIGDIR"] = _SCRATCH
os.environ["DO_NOT_TRACK"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"  # or a missing model is looked for six times, with pauses
os.environ.setdefault("OMP_NUM_THREADS", "1")  # also in stages: the workers of xdist already take all cores
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["GOMP_SPINCOUNT"] = "10000"
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ["YOLO_OFFLINE"] = "true"
os.environ["YOLO_AUTOINSTALL"] = "false"
os.environ["YOLO_VERBOSE"] = "false"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

gc.set_threshold(10_000, 10, 10)  # as in `pipeline`

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from data.dataset import Dataset, DatasetInfo, write_info
from data.labels import Instance
from data.samples import Sample, write_sample
from models.tasks.predictions import encode_masks

CLASSES = {
    "detection": ["square", "bar"],
    "instance-segmentation": ["square", "bar"],
    "segmentation": ["ground", "square", "bar"],
    "classification": ["grey", "bar"],
}


def _sample(split: str, index: int, size: tuple[int, int]) -> Sample:
    rng = np.random.default_rng([index, len(split)])
    height, width = size
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[10:30, 8:28] = 1
    mask[:3] = 255
    image[10:30, 8:28] = [200, 40, 40]
    boxes = np.array([[0, 18 / width, 20 / height, 20 / width, 20 / height]])
    counts = encode_masks((mask == 1).astype(np.uint8)[None])[0]
    objects = (Instance(0, counts),)
    return Sample(f"{split}{index}", split, image, boxes, mask, instances=objects, category=index % 2)


def write_dataset(parent: Path, name: str = "clean", size: tuple[int, int] = (48, 64), **counts: int) -> Dataset:
    """A small canonical dataset with boxes and masks, in a new folder of this name."""
    folder = parent / name
    counts = counts or {"train": 5, "val": 2, "test": 3}
    for split, count in counts.items():
        for index in range(count):
            write_sample(folder, _sample(split, index, size))
    write_info(folder, DatasetInfo(name, CLASSES, counts, {"source": "test"}))
    return Dataset.open(folder)


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Dataset]:
    """Builds a small canonical dataset with boxes and masks."""
    return partial(write_dataset, tmp_path)


@pytest.fixture(scope="session")
def shared_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A small canonical dataset for tests that do not change it."""
    return write_dataset(tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="session")
def finished_run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run for tests to copy: see `finished_run`."""
    import finished_run

    folder = tmp_path_factory.mktemp("finished")
    finished_run.make(folder, partial(write_dataset, folder))
    return folder


@pytest.fixture(scope="session")
def mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database for tests to copy: to create one takes a second."""
    from mlflow_project import make_database

    return make_database(tmp_path_factory.mktemp("database"))
