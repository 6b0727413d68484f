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

from models.diffusion.adm_settings import GuidedError
from models.diffusion.prior import DiffusionPrior, PriorError
from models.diffusion.schedule import ScheduleError
from models.restorers import FORMAT, HEADER, RestorerError, build_restorer, load_restorer, save_restorer
from models.tasks import TaskError, get_task
from models.tasks.predictions import DetectionPrediction
from pipeline.metrics import MeanRecords, get_scoring, load_records
from pipeline.metrics.records import RecordsError
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
        task = get_task(name)(smp_networks.build_network(about, 2, None), CLASSES, about, CPU)
    elif name == "detection":
        task = get_task(name)(
            parts("detect").model("yolo11n.yaml", nc=2, verbose=False), CLASSES, {"image_size": 64}, CPU
        )
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
    with get_scoring("detection").writer(folder / "found") as writer:
        writer.write("a", found)
    (folder / "masks").mkdir()
    with get_scoring("segmentation").writer(folder / "masks") as writer:
        writer.write("a", np.zeros((8, 8), np.uint8))
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


def _found(name: str) -> Callable[[Path], Any]:
    return lambda folder: dict(get_scoring(name).read(folder / ("masks" if name == "segmentation" else "found")))


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
_segmenter, _detector, _classifier = map(_load, ("segmentation", "detection", "classification"))
_boxes, _categories, _masks = map(_found, ("detection", "classification", "segmentation"))
LEFT_OUT = "not the description of a saved task network"
FAULTS: dict[Callable[[Path], Any], list[tuple[str, Callable[[Path], Any], str]]] = {
    _restorer: [
        ("restorer missing", lambda f: (f / "restorer.safetensors").unlink(), "no such restorer checkpoint"),
        ("restorer of no bytes", _bytes("restorer.safetensors", b""), "not a readable safetensors file"),
        ("restorer cut", _cut("restorer.safetensors"), "not a readable safetensors file"),
        ("restorer without a tensor", _without_a_tensor("restorer.safetensors"), f"{FIT} .*Missing key"),
        ("restorer without settings", _header(_about(settings=None)), FIT),
        ("restorer of another name", _header(_about(name="nafnett")), f"{FIT}.*no restorer 'nafnett'"),
        ("restorer whose name is a list", _header(_about(name=["nafnet"])), FIT),
        ("restorer of a width of words", _header(_about(settings=NAFNET | {"width": "4"})), FIT),
        ("restorer of no width", _header(_about(settings=NAFNET | {"width": 0})), FIT),
        ("restorer beyond all memory", _header(_about(settings=NAFNET | {"width": 10**9})), FIT),
        ("restorer of another version", _header(_about(format="other/9")), "spandrel cannot read"),
        ("restorer with a header cut", _header('{"format"'), "spandrel cannot read"),
        ("restorer with an endless header", _header("[" * 9000), "spandrel cannot read"),
    ],
    _prior: [
        ("prior missing", lambda f: shutil.rmtree(f / "prior"), "no unet found"),
        (
            "prior that is not needed",
            lambda f: [shutil.rmtree(f / "prior" / p) for p in ("unet", "scheduler")],
            "no unet",
        ),
        ("prior without weights", lambda f: (f / WEIGHTS).unlink(), "prior: not a readable prior"),
        ("prior's weights cut", _cut(WEIGHTS), "prior: not a readable prior"),
        ("prior's weights lack one", _without_a_tensor(WEIGHTS), "prior: the weights lack "),
        ("prior's settings cut", _cut("prior/unet/config.json"), "prior: n"),
        ("prior of another kind", _changed("prior/unet/config.json", _class_name="VQModel"), "expected a UNet2DModel"),
        (
            "prior of other widths",
            _changed("prior/unet/config.json", block_out_channels=[64, 128]),
            "not a readable prior",
        ),
        ("prior of no channels", _changed("prior/unet/config.json", block_out_channels=[0, 0]), "not a readable prior"),
        (
            "schedule of no steps",
            _changed("prior/scheduler/scheduler_config.json", num_train_timesteps=0),
            "expected alphas_cumprod",
        ),
        (
            "schedule of words",
            _changed("prior/scheduler/scheduler_config.json", beta_schedule="x"),
            "not a readable prior",
        ),
        ("null class of words", _bytes("prior/null_class.json", b'{"null_class": "x"}'), "not a readable prior"),
    ],
    _adm: [
        ("ADM settings cut", _cut("adm.json"), "adm.json: expected a JSON file of guided-diffusion settings"),
        ("ADM settings of a list", _bytes("adm.json", b"[]"), "expected a JSON object of settings, got a list"),
        ("ADM size of words", _changed("adm.json", image_size="big"), "image_size: expected int, got 'big'"),
        ("ADM without steps", _changed("adm.json", diffusion_steps=0), "diffusion_steps: expected 1 to"),
        ("ADM of a squared number", _changed("adm.json", num_res_blocks="²"), "num_res_blocks: expected int, got '²'"),
        ("ADM of endless width", _changed("adm.json", channel_mult="1,inf"), "channel_mult: expected numbers"),
        ("ADM without channels", _changed("adm.json", num_channels=0), "num_channels: expected 1 to"),
        ("ADM's weights cut", _cut("adm.safetensors"), "adm.safetensors: cannot be read as a checkpoint"),
        ("ADM's weights lack one", _without_a_tensor("adm.safetensors"), "the checkpoint lacks"),
    ],
    _segmenter: [
        ("segmenter without description", lambda f: (f / "segmentation/task.json").unlink(), LEFT_OUT),
        ("segmenter of another version", _changed("segmentation/task.json", known=None), "it has no 'known'"),
        ("segmenter's weights cut", _cut("segmentation/weights.safetensors"), "not readable as weights alone"),
        ("segmenter of other classes", _changed("segmentation/task.json", known=["a"], classes=["a"]), "do not fit"),
        (
            "segmenter's network of words",
            _changed("segmentation/task.json", network="x"),
            "expected a network's architecture and encoder",
        ),
    ],
    _detector: [
        ("detector's description cut", _cut("detection/task.json"), LEFT_OUT),
        ("detector of another version", _changed("detection/task.json", image_size=None), "no 'image_size'"),
        ("detector's weights cut", _cut("detection/weights.safetensors"), "not a saved detection network"),
        ("detector's network of words", _changed("detection/task.json", model="x"), "not a saved detection"),
        ("detector of no layers", _changed("detection/task.json", model={}), "not a saved detection"),
    ],
    _classifier: [
        ("classifier of no JSON", _bytes("classification/task.json", b"\xff"), LEFT_OUT),
        ("classifier's weights cut", _cut("classification/weights.safetensors"), "not a saved classi"),
        (
            "classifier that is none",
            lambda f: edit(f / "classification/task.json", "resnet10t", "nothing"),
            "cannot build",
        ),
    ],
    _records: [
        ("records of no bytes", _bytes("records.npz", b""), "records.npz: not a readable file of records"),
        ("records cut", _cut("records.npz"), "records.npz: not a readable file of records"),
        ("records of text", _bytes("records.npz", b"hello"), "not a readable file of records"),
        ("records without a kind", _npz(a=[1]), "it has no entry 'kind'"),
        ("records of an unknown kind", _npz(kind="depth"), "unknown records 'depth', expected"),
        ("records of another version", _npz(kind="mean", ids=["a"]), "mean records of another version"),
        (
            "records of other lengths",
            _npz(kind="mean", image_ids=["a"], metric_names=["b", "c"], values=np.ones((1, 1))),
            "another version",
        ),
    ],
    _boxes: [
        ("predictions missing", lambda f: (f / "found/predictions.json").unlink(), "predictions.json: not readable"),
        ("predictions cut", _cut("found/predictions.json"), "predictions.json: not readable"),
        ("predictions of another task", _bytes("found/predictions.json", b'{"images": {}}'), "another version"),
    ],
    _categories: [
        (
            "predictions of words",
            _bytes("found/predictions.json", b'{"a": {"category_id": "x", "score": 1}}'),
            "another version",
        ),
    ],
    _masks: [
        ("predicted mask cut", _cut("masks/a.png"), "a.png: not readable predictions"),
    ],
}
ALL = [Fault(name, prepare, run, match) for run, rows in FAULTS.items() for name, prepare, match in rows]


@pytest.mark.parametrize("fault", ALL, ids=names(ALL))
def test_a_fault_in_stored_weights_or_scores_is_one_line(fault: Fault, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    refuses(fault, folder, RestorerError, PriorError, ScheduleError, GuidedError, TaskError, RecordsError)


def test_what_is_whole_loads(whole: Path) -> None:
    for load in (_restorer, _prior, _adm, _records, _segmenter, _detector, _classifier):
        load(whole)
