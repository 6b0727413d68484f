"""Weights, and what is stored beside them, that are damaged or of another version: restorers, priors, tasks, scores."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from models.diffusion.guided_settings import GuidedError
from models.diffusion.prior import DiffusionPrior, PriorError
from models.diffusion.schedule import ScheduleError
from models.restorers import FORMAT, HEADER, RestorerError, build_restorer, load_restorer, save_restorer
from models.tasks import TaskError, get_task
from models.tasks.detection_matching import DetectionPrediction
from models.tasks.records import MeanRecords, RecordsError, load_records
from tests.adm_reference import TINY, reference_run
from tests.fault_table import Fault, cut, edit, names, refuses

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries that read these files
CPU = torch.device("cpu")
NAFNET = {"width": 4, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]}
CLASSES = ["square", "bar"]


def _task(name: str, folder: Path) -> None:
    from models.tasks import classification, smp_networks
    from models.tasks.yolo_library import parts

    folder.mkdir()
    if name == "segmentation":
        about = {"architecture": "unet", "encoder": "tu-mobilenetv3_small_050"}
        task = get_task(name)(smp_networks.build(about, 2, None), CLASSES, about, CPU)
    elif name == "detection":
        task = get_task(name)(parts("detect").model("yolo11n.yaml", nc=2, verbose=False), CLASSES, 64, CPU)
    else:
        about = {"model": "resnet10t", "image_size": 64}
        task = get_task(name)(classification._build("resnet10t", 2, False), CLASSES, about, CPU)
    task.save(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of everything, undamaged."""
    folder = tmp_path_factory.mktemp("whole")
    save_restorer(folder / "restorer.safetensors", build_restorer("nafnet", NAFNET))
    reference = reference_run(TINY)[0]
    save_file(reference.weights, folder / "adm.safetensors")
    (folder / "adm.json").write_text(json.dumps(TINY))
    DiffusionPrior.from_guided_diffusion(folder / "adm.safetensors", folder / "adm.json").save(folder / "prior")
    for name in ("segmentation", "detection", "classification"):
        _task(name, folder / name)
    MeanRecords(("a", "b"), {"PSNR": np.array([20.0, 30.0])}).save(folder / "records.npz")
    (folder / "found").mkdir()
    found = DetectionPrediction(np.array([[0, 0, 5, 5.0]]), np.array([0.5]), np.array([1]))
    get_task("detection").write(folder / "found", {"a": found})
    (folder / "masks").mkdir()
    get_task("segmentation").write(folder / "masks", {"a": np.zeros((8, 8), np.uint8)})
    return folder


def _bytes(name: str, content: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(content)


def _cut(name: str) -> Callable[[Path], Any]:
    return lambda folder: cut(folder / name)


def _changed(name: str, **changes: Any) -> Callable[[Path], Any]:
    """Other entries in a JSON file; None removes one."""

    def change(folder: Path) -> None:
        content = json.loads((folder / name).read_text()) | changes
        (folder / name).write_text(json.dumps({key: value for key, value in content.items() if value is not None}))

    return change


def _without_a_tensor(name: str) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        with safe_open(folder / name, "pt") as file:
            about = file.metadata()
        state = load_file(folder / name)
        state.pop(next(iter(state)))
        save_file(state, folder / name, metadata=about)

    return change


def _header(text: str) -> Callable[[Path], Any]:
    return lambda folder: save_file({"x": torch.zeros(1)}, folder / "restorer.safetensors", metadata={HEADER: text})


def _about(**changes: Any) -> str:
    return json.dumps({"format": FORMAT, "name": "nafnet", "settings": NAFNET} | changes)


def _load(name: str) -> Callable[[Path], Any]:
    return lambda folder: get_task(name).load(folder / name, CPU)


def _restorer(folder: Path) -> None:
    load_restorer(folder / "restorer.safetensors")


def _prior(folder: Path) -> None:
    DiffusionPrior.load(folder / "prior")


def _adm(folder: Path) -> None:
    DiffusionPrior.from_guided_diffusion(folder / "adm.safetensors", folder / "adm.json")


def _records(folder: Path) -> None:
    load_records(folder / "records.npz")


def _npz(**arrays: Any) -> Callable[[Path], Any]:
    return lambda folder: np.savez(folder / "records.npz", **arrays)


WEIGHTS = "prior/unet/diffusion_pytorch_model.safetensors"
FIT = "restorer.safetensors: weights and settings do not fit"
RESTORERS = [
    Fault(
        "restorer missing", lambda f: (f / "restorer.safetensors").unlink(), _restorer, "no such restorer checkpoint"
    ),
    Fault("restorer of no bytes", _bytes("restorer.safetensors", b""), _restorer, "not a readable safetensors file"),
    Fault("restorer cut", _cut("restorer.safetensors"), _restorer, "not a readable safetensors file"),
    Fault("restorer without a tensor", _without_a_tensor("restorer.safetensors"), _restorer, f"{FIT} .*Missing key"),
    Fault("restorer without settings", _header(_about(settings=None)), _restorer, FIT),
    Fault("restorer of another name", _header(_about(name="nafnett")), _restorer, f"{FIT}.*no restorer 'nafnett'"),
    Fault("restorer whose name is a list", _header(_about(name=["nafnet"])), _restorer, FIT),
    Fault("restorer of a width of words", _header(_about(settings=NAFNET | {"width": "4"})), _restorer, FIT),
    Fault("restorer of no width", _header(_about(settings=NAFNET | {"width": 0})), _restorer, FIT),
    Fault("restorer beyond all memory", _header(_about(settings=NAFNET | {"width": 10**9})), _restorer, FIT),
    Fault("restorer of another version", _header(_about(format="other/9")), _restorer, "spandrel cannot read"),
    Fault("restorer with a header cut", _header('{"format"'), _restorer, "spandrel cannot read"),
    Fault("restorer with an endless header", _header("[" * 9000), _restorer, "spandrel cannot read"),
]
PRIORS = [
    Fault("prior missing", lambda f: shutil.rmtree(f / "prior"), _prior, "no unet found"),
    Fault(
        "prior that is not needed",
        lambda f: [shutil.rmtree(f / "prior" / p) for p in ("unet", "scheduler")],
        _prior,
        "no unet",
    ),
    Fault("prior without weights", lambda f: (f / WEIGHTS).unlink(), _prior, "prior: not a readable prior"),
    Fault("prior's weights cut", _cut(WEIGHTS), _prior, "prior: not a readable prior"),
    Fault("prior's weights lack one", _without_a_tensor(WEIGHTS), _prior, "prior: the weights lack "),
    Fault("prior's settings cut", _cut("prior/unet/config.json"), _prior, "prior: n"),
    Fault(
        "prior of another kind",
        _changed("prior/unet/config.json", _class_name="VQModel"),
        _prior,
        "expected a UNet2DModel",
    ),
    Fault(
        "prior of other widths",
        _changed("prior/unet/config.json", block_out_channels=[64, 128]),
        _prior,
        "not a readable prior",
    ),
    Fault(
        "prior of no channels",
        _changed("prior/unet/config.json", block_out_channels=[0, 0]),
        _prior,
        "not a readable prior",
    ),
    Fault(
        "schedule of no steps",
        _changed("prior/scheduler/scheduler_config.json", num_train_timesteps=0),
        _prior,
        "expected alphas_cumprod",
    ),
    Fault(
        "schedule of words",
        _changed("prior/scheduler/scheduler_config.json", beta_schedule="x"),
        _prior,
        "not a readable prior",
    ),
    Fault(
        "null class of words", _bytes("prior/null_class.json", b'{"null_class": "x"}'), _prior, "not a readable prior"
    ),
    Fault("ADM settings cut", _cut("adm.json"), _adm, "adm.json: expected a JSON file of guided-diffusion settings"),
    Fault("ADM settings of a list", _bytes("adm.json", b"[]"), _adm, "expected a JSON object of settings, got a list"),
    Fault("ADM size of words", _changed("adm.json", image_size="big"), _adm, "image_size: expected int, got 'big'"),
    Fault("ADM without steps", _changed("adm.json", diffusion_steps=0), _adm, "diffusion_steps: expected 1 to"),
    Fault(
        "ADM of a squared number",
        _changed("adm.json", num_res_blocks="²"),
        _adm,
        "num_res_blocks: expected int, got '²'",
    ),
    Fault("ADM of endless width", _changed("adm.json", channel_mult="1,inf"), _adm, "channel_mult: expected numbers"),
    Fault("ADM without channels", _changed("adm.json", num_channels=0), _adm, "num_channels: expected 1 to"),
    Fault("ADM's weights cut", _cut("adm.safetensors"), _adm, "adm.safetensors: cannot be read as a checkpoint"),
    Fault("ADM's weights lack one", _without_a_tensor("adm.safetensors"), _adm, "the checkpoint lacks"),
]
LEFT_OUT = "not the description of a saved task network"
TASKS = [
    Fault(
        "segmenter without description",
        lambda f: (f / "segmentation/task.json").unlink(),
        _load("segmentation"),
        LEFT_OUT,
    ),
    Fault(
        "segmenter of another version",
        _changed("segmentation/task.json", known=None),
        _load("segmentation"),
        "it has no 'known'",
    ),
    Fault(
        "segmenter's weights cut",
        _cut("segmentation/weights.safetensors"),
        _load("segmentation"),
        "not a safetensors file",
    ),
    Fault(
        "segmenter of other classes",
        _changed("segmentation/task.json", known=["a"], classes=["a"]),
        _load("segmentation"),
        "do not fit",
    ),
    Fault(
        "segmenter's network of words",
        _changed("segmentation/task.json", network="x"),
        _load("segmentation"),
        "expected a network's architecture and encoder",
    ),
    Fault("detector's description cut", _cut("detection/task.json"), _load("detection"), LEFT_OUT),
    Fault(
        "detector of another version",
        _changed("detection/task.json", image_size=None),
        _load("detection"),
        "no 'image_size'",
    ),
    Fault(
        "detector's weights cut",
        _cut("detection/weights.safetensors"),
        _load("detection"),
        "not a saved detection network",
    ),
    Fault(
        "detector's network of words",
        _changed("detection/task.json", model="x"),
        _load("detection"),
        "not a saved detection",
    ),
    Fault(
        "detector of no layers", _changed("detection/task.json", model={}), _load("detection"), "not a saved detection"
    ),
    Fault("classifier of no JSON", _bytes("classification/task.json", b"\xff"), _load("classification"), LEFT_OUT),
    Fault(
        "classifier's weights cut",
        _cut("classification/weights.safetensors"),
        _load("classification"),
        "not a saved classi",
    ),
    Fault(
        "classifier that is none",
        lambda f: edit(f / "classification/task.json", "resnet10t", "nothing"),
        _load("classification"),
        "cannot build",
    ),
]
SCORES = [
    Fault("records of no bytes", _bytes("records.npz", b""), _records, "records.npz: not a readable file of records"),
    Fault("records cut", _cut("records.npz"), _records, "records.npz: not a readable file of records"),
    Fault("records of text", _bytes("records.npz", b"hello"), _records, "not a readable file of records"),
    Fault("records without a kind", _npz(a=[1]), _records, "it has no entry 'kind'"),
    Fault("records of an unknown kind", _npz(kind="depth"), _records, "unknown records 'depth'; there are"),
    Fault("records of another version", _npz(kind="mean", ids=["a"]), _records, "mean records of another version"),
    Fault(
        "records of other lengths",
        _npz(kind="mean", image_ids=["a"], metric_names=["b", "c"], values=np.ones((1, 1))),
        _records,
        "another version",
    ),
    Fault(
        "predictions missing",
        lambda f: (f / "found/predictions.json").unlink(),
        lambda f: get_task("detection").read(f / "found"),
        "predictions.json: not readable",
    ),
    Fault(
        "predictions cut",
        _cut("found/predictions.json"),
        lambda f: get_task("detection").read(f / "found"),
        "predictions.json: not readable",
    ),
    Fault(
        "predictions of another task",
        _bytes("found/predictions.json", b'{"images": {}}'),
        lambda f: get_task("detection").read(f / "found"),
        "another version",
    ),
    Fault(
        "predictions of words",
        _bytes("found/predictions.json", b'{"a": {"category_id": "x", "score": 1}}'),
        lambda f: get_task("classification").read(f / "found"),
        "another version",
    ),
    Fault(
        "predicted mask cut",
        _cut("masks/a.png"),
        lambda f: get_task("segmentation").read(f / "masks"),
        "a.png: not readable predictions",
    ),
]
ALL = [*RESTORERS, *PRIORS, *TASKS, *SCORES]


@pytest.mark.parametrize("fault", ALL, ids=names(ALL))
def test_a_fault_in_stored_weights_or_scores_is_one_line(fault: Fault, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    refuses(fault, folder, RestorerError, PriorError, ScheduleError, GuidedError, TaskError, RecordsError)


def test_what_is_whole_loads(whole: Path) -> None:
    for load in (_restorer, _prior, _adm, _records, *map(_load, ("segmentation", "detection", "classification"))):
        load(whole)
