"""No pickle from outside runs without consent: every way by which weights and arrays come in."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from data.dataset import Dataset
from models.diffusion.prior import DiffusionPrior, PriorError
from models.losses import LossError
from models.losses.lpips import BACKBONE_FILES, load_network
from models.tasks import TaskError, get_task
from models.tasks.yolo_files import read_saved
from pipeline.metrics import load_records
from pipeline.metrics.records import RecordsError
from pipeline.training.loop import CheckpointError, Loop
from tests.adm_reference import TINY
from tests.test_prior import tiny_prior

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries that are asked to read these files
CPU = torch.device("cpu")
ROOT = Path(__file__).parents[1]


class Malicious:
    """Unpickling it makes a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "executed"


def _pickle(path: Path, mark: Path) -> Path:
    """A file that does harm where it is simply unpickled, which is tried."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"x": torch.zeros(1), "more": Malicious(mark)}, path)
    torch.load(path, weights_only=False)
    mark.rmdir()
    return path


def _restored_prior(folder: Path, mark: Path) -> None:
    tiny_prior().save(folder / "prior")
    (folder / "prior/unet/diffusion_pytorch_model.safetensors").unlink()
    _pickle(folder / "prior/unet/diffusion_pytorch_model.bin", mark)
    DiffusionPrior.load(folder / "prior")


def _adm(folder: Path, mark: Path) -> None:
    DiffusionPrior.from_guided_diffusion(_pickle(folder / "adm.pt", mark), TINY)


def _lpips(folder: Path, mark: Path) -> None:
    torch.hub.set_dir(str(folder / "hub"))
    _pickle(folder / "hub" / "checkpoints" / BACKBONE_FILES["alex"], mark)
    load_network("alex")


def _segmenter(folder: Path, mark: Path) -> None:
    """What save_pretrained writes, with an entry that would make timm load another file."""
    about = {"architecture": "unet", "encoder": "tu-mobilenetv3_small_050"}
    from models.tasks import smp_files, smp_networks

    network = smp_networks.build_network(about, 2, None)
    (folder / "net").mkdir()
    save_file(network.state_dict(), folder / "net" / "model.safetensors")
    evil = str(_pickle(folder / "evil.pth", mark))
    config = {"_model_class": "Unet", "encoder_name": about["encoder"], "checkpoint_path": evil, "pretrained": evil}
    (folder / "net" / "config.json").write_text(json.dumps(config))
    get_task("segmentation").check({"weights": str(folder / "net"), "frozen": True, "model_classes": ["a", "b"]})
    description, _ = smp_files.read_description(folder / "net", about)
    smp_networks.load_network(folder / "net", description, 2)


def _records(folder: Path, mark: Path) -> None:
    np.savez(folder / "r.npz", allow_pickle=True, kind="mean", image_ids=np.array([Malicious(mark)], dtype=object))
    load_records(folder / "r.npz")


def _records_that_are_a_pickle(folder: Path, mark: Path) -> None:
    (folder / "r.npz").write_bytes(pickle.dumps(Malicious(mark)))
    load_records(folder / "r.npz")


def _detector(folder: Path, mark: Path) -> None:
    settings = {"weights": str(_pickle(folder / "evil.pt", mark)), "frozen": True}
    get_task("detection").fit(None, None, ["a"], settings, Loop("x", folder / "work", 0, CPU))  # type: ignore[arg-type]


def _checkpoint(folder: Path, mark: Path) -> None:
    _pickle(folder / "work" / "checkpoint.pt", mark)
    for _ in Loop("x", folder / "work", 0, CPU).steps(1, {}):
        pass


WAYS: list[Callable[[Path, Path], None]] = [
    _restored_prior,
    _adm,
    _lpips,
    _segmenter,
    _records,
    _records_that_are_a_pickle,
    _detector,
    _checkpoint,
]
REFUSALS = (PriorError, LossError, TaskError, RecordsError, CheckpointError)


@pytest.mark.parametrize("way", WAYS, ids=[way.__name__.strip("_") for way in WAYS])
def test_a_malicious_pickle_is_refused_in_one_line_and_not_run(
    way: Callable[[Path, Path], None], tmp_path: Path, mark: Path
) -> None:
    before = torch.hub._hub_dir
    try:
        with pytest.raises(REFUSALS) as caught:
            way(tmp_path, mark)
    finally:
        torch.hub._hub_dir = before  # set_dir would pin the folder that TORCH_HOME names
    assert "\n" not in str(caught.value)
    assert not mark.exists()


def test_a_pt_file_is_loaded_with_consent_alone_which_says_why(tmp_path: Path, mark: Path) -> None:
    path = _pickle(tmp_path / "evil.pt", mark)
    with pytest.raises(TaskError, match=r"is a pickle, and loading one can run any code.*trust_pickle: true"):
        get_task("detection").check({"weights": str(path)})
    get_task("detection").check({"weights": str(path), "trust_pickle": True})
    assert not mark.exists()  # a check loads nothing


def test_the_description_of_a_saved_detector_is_not_evaluated(tmp_path: Path, mark: Path) -> None:
    """Ultralytics' own reader evaluates text in a model's layers."""
    from models.tasks.yolo_library import parts

    network = parts("detect").model("yolo11n.yaml", nc=2, verbose=False)
    get_task("detection")(network, ["a", "b"], {"image_size": 64}, CPU).save(tmp_path)
    content = json.loads((tmp_path / "task.json").read_text())
    call = f"__import__('os').mkdir({str(mark)!r})"
    for layer in content["model"]["backbone"]:
        layer[3] = [call, *layer[3][1:]]
    content["model"]["activation"] = call
    (tmp_path / "task.json").write_text(json.dumps(content))
    with pytest.raises(TaskError, match="not a saved detection network"):
        read_saved(tmp_path, "detect", "detection")
    assert not mark.exists()


def test_what_is_written_holds_no_pickle(make_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    tiny_prior().save(tmp_path / "prior")
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".pkl", ".pt", ".pth", ".bin")]
    assert load_file(next(tmp_path.rglob("*.safetensors")))


def test_only_known_places_load_files_that_can_be_pickles() -> None:
    """A new torch.load or np.load must be looked at: each of these says weights_only, or allow_pickle=False."""
    found = {}
    for folder in ("data", "models", "pipeline"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text()
            for call in ("torch.load(", "np.load(", "pickle.load", "joblib.load", "read_pickle", "torch.hub.load("):
                for part in text.split(call)[1:]:
                    line = part.partition("\n")[0]
                    found[path.relative_to(ROOT).as_posix(), call] = line
    assert found and all("weights_only=True" in line or "allow_pickle=False" in line for line in found.values()), found


def test_timm_reads_weights_only(tmp_path: Path, mark: Path) -> None:
    """`weights: imagenet` goes through the library's cache, where older files are pickles."""
    import timm

    with pytest.raises(Exception, match="weights_only"):
        timm.create_model("resnet10t", checkpoint_path=str(_pickle(tmp_path / "evil.pth", mark)))
    assert not mark.exists()
    shutil.rmtree(tmp_path / "evil.pth", ignore_errors=True)
