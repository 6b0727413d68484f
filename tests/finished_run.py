"""A finished run in miniature, for the commands behind it: nothing is trained, all files are of the real kinds."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from data import images
from data.dataset import Dataset, Split
from models.restorers import build_restorer, load_restorer, save_restorer
from models.tasks.segmentation import Segmentation
from models.tasks.smp_networks import start_network
from pipeline.metrics.evaluation import evaluate
from pipeline.reporting.score_rows import RESULTS
from pipeline.running.artifacts import variant_folder
from pipeline.settings.grammar import objective_losses
from pipeline.settings.params import load_params
from pipeline.statistics.verdicts import COLUMNS

ROOT = Path(__file__).parents[1]
DEGRADATION, OBJECTIVE, TASK = "fog", "pixel", "segmentation"
COUNTS = {"train": 2, "val": 12, "test": 11}
SIZE = (40, 45)


def make(folder: Path, make_dataset: Callable[..., Dataset], **counts: int) -> None:
    """Lay a run out in `folder`, where it is to be read from."""
    for name in ("dvc.yaml", "params.tiny.yaml"):
        shutil.copyfile(ROOT / name, folder / name.replace(".tiny", ""))
    artifacts = folder / "artifacts"
    make_dataset("clean", SIZE, **(counts or COUNTS)).folder.rename(folder / "made")
    artifacts.mkdir()
    (folder / "made").rename(artifacts / "clean")
    degraded = artifacts / "degraded" / DEGRADATION
    shutil.copytree(artifacts / "clean", degraded)
    for path in degraded.glob("*/images/*.png"):
        images.write_image(path, images.read_image(path) // 4)
    write_objective(folder)
    _write_restorer(artifacts, Dataset.open(degraded))
    _write_task(artifacts, Dataset.open(artifacts / "clean"), Dataset.open(degraded))
    _write_report(artifacts / "report")


def write_objective(folder: Path, **changed: object) -> None:
    """What the stage `objective` leaves behind, as far as it is settings."""
    params = load_params(folder / "params.yaml")
    steps, summed = params.train_restorer.of(OBJECTIVE).steps, objective_losses(OBJECTIVE, params.losses)
    losses = {name: {"kind": kind, "settings": settings} for name, (kind, settings) in summed.items()}
    path = folder / "artifacts" / "objectives" / f"{OBJECTIVE}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"objective": OBJECTIVE, "steps": steps, "losses": losses, **changed}))


def _write_restorer(artifacts: Path, degraded: Dataset) -> None:
    folder = artifacts / "restorers" / DEGRADATION / OBJECTIVE
    folder.mkdir(parents=True)
    torch.manual_seed(1)
    restorer = build_restorer("nafnet", load_settings(artifacts.parent))
    for parameter in restorer.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    save_restorer(folder / "restorer.safetensors", restorer)
    for split in degraded.evaluation_splits:
        target = artifacts / "restored" / DEGRADATION / OBJECTIVE / split
        target.mkdir(parents=True)
        for id in degraded.split(split).ids:
            images.write_image(target / f"{id}.png", restored(artifacts, degraded.split(split), id))


def load_settings(folder: Path) -> dict[str, object]:
    """The chosen restorer's section."""
    return load_params(folder / "params.yaml").train_restorer.network


def restored(artifacts: Path, split: Split, id: str) -> np.ndarray:
    """What the restorer makes of one image."""
    restorer = load_restorer(artifacts / "restorers" / DEGRADATION / OBJECTIVE / "restorer.safetensors")
    with torch.inference_mode():
        return images.to_uint8(restorer(images.to_tensor(split.image(id))[None])[0])


def _write_task(artifacts: Path, clean: Dataset, degraded: Dataset) -> None:
    torch.manual_seed(2)
    classes = clean.info.classes[TASK]
    names = {"architecture": "unet", "encoder": "tu-mobilenetv3_small_050"}
    network, description = start_network(names, None, len(classes))
    task = Segmentation(network, classes, description, torch.device("cpu"))
    folder = artifacts / "tasks" / TASK
    folder.mkdir(parents=True)
    task.save(folder)
    split = clean.evaluation_split
    truth = degraded.split(split)
    sources = {
        "clean": clean.folder / split / "images",
        "degraded": truth.folder / "images",
        OBJECTIVE: artifacts / "restored" / DEGRADATION / OBJECTIVE / split,
    }
    for variant, source in sources.items():
        evaluations = variant_folder(artifacts / "evaluations", TASK, DEGRADATION, variant, [])
        evaluate(
            task,
            truth,
            lambda id, source=source: images.read_image(source / f"{id}.png"),  # type: ignore[misc]
            evaluations / split,
            variant,
        )


def _write_report(report: Path) -> None:
    report.mkdir(parents=True)
    rows = [
        {"variant": variant, "value": value, "ci_low": value - 0.01, "ci_high": value + 0.01}
        for variant, value in (("clean", 0.9), ("degraded", 0.25), (OBJECTIVE, 0.5125), ("diffloss", 0.6789))
    ]
    common = {"task": TASK, "degradation": DEGRADATION, "metric": "mIoU", "n_images": 11}
    common |= {"n_groups": 11, "n_trainings": 1}
    pd.DataFrame([common | row for row in rows], columns=RESULTS).to_csv(report / "results.csv", index=False)
    verdict = {"versus": "degraded", "gain": 0.2625, "ci_low": 0.2, "ci_high": 0.3, "p_holm": 0.01, "verdict": "helps"}
    others = [{**common, **verdict, "variant": OBJECTIVE}, {**common, **verdict, "variant": "diffloss", "gain": 0.4289}]
    pd.DataFrame(others, columns=COLUMNS).to_csv(report / "verdicts.csv", index=False)


def add_harm(report: Path) -> None:
    """As an arm `clean-restored-pixel` adds it."""
    table = pd.read_csv(report / "verdicts.csv")
    row = table.iloc[0].to_dict() | {"variant": f"clean-restored-{OBJECTIVE}", "versus": "clean", "gain": -0.0321}
    pd.concat([table, pd.DataFrame([row | {"verdict": "hurts"}])]).to_csv(report / "verdicts.csv", index=False)


def add_lock(folder: Path, **params: object) -> None:
    """What DVC writes about the training."""
    entry = {"params": {"params.yaml": params}}
    lock = {"schema": "2.0", "stages": {f"train_restorer@{DEGRADATION}-{OBJECTIVE}": entry}}
    (folder / "dvc.lock").write_text(json.dumps(lock))  # JSON is YAML
