"""Restorers as MLflow models, which `mlflow models` and mlflow.pyfunc load.

A model has the weights, a script that loads them (no pickle), and the source files that the script needs.
"""

import hashlib
import json
import logging
import re
import shutil
import tempfile
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.restorers import CHECKPOINT, RESTORERS
from pipeline.running.digests import imported_files
from pipeline.settings.plugins import PROJECT
from pipeline.settings.training import restorer_modules

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

SCRIPT = "pipeline.tracking.served_restorer"
NAME = "restorer"  # of the logged model and of its weights
DIGEST = "digest"  # the tag of a model with the digest of its weights, code and settings
PACKAGES = ("mlflow", "numpy", "opencv-python-headless", "pillow", "safetensors", "torch")
EXAMPLE = 32  # pixels


@dataclass(frozen=True)
class RestorerFile:
    """A trained restorer and how it is applied.

    Attributes:
        weights: the file.
        architecture: the name of its entry in RESTORERS, or `checkpoint`.
        tile: side in pixels of the tiles that images are restored in; None: whole.
        overlap: of tiles, in pixels.
    """

    weights: Path
    architecture: str
    tile: int | None
    overlap: int

    @property
    def digest(self) -> str:
        """A digest of the weights, the code that loads them, and the settings."""
        digest = hashlib.sha256(json.dumps([self.architecture, self.tile, self.overlap]).encode())
        for path in [self.weights, *self.code()]:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()[:16]

    def code(self) -> list[Path]:
        """The source files that loading the restorer needs."""
        name = self.architecture if self.architecture in RESTORERS else CHECKPOINT
        return sorted(imported_files([SCRIPT, *restorer_modules(name)]))


def log_restorer(client: "MlflowClient", run: "Run", restorer: RestorerFile) -> None:
    """Log a restorer as a model of a run, unless the run has it already. Another model of the run is replaced."""
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    digest, known = restorer.digest, _models(client, run)
    if any(model.tags.get(DIGEST) == digest and model.status == LoggedModelStatus.READY for model in known):
        return
    for model in known:
        client.delete_logged_model(model.model_id)
    labels = {str(name): run.data.tags[name] for name in ("degradation", "objective") if name in run.data.tags}
    new = client.create_logged_model(
        run.info.experiment_id, NAME, run.info.run_id, tags={DIGEST: digest, **labels}, model_type="restorer"
    )
    with tempfile.TemporaryDirectory() as scratch:
        _write(Path(scratch), restorer, new)
        client.log_model_artifacts(new.model_id, str(Path(scratch) / "model"))
    client.log_outputs(run.info.run_id, [LoggedModelOutput(new.model_id, step=0)])
    client.finalize_logged_model(new.model_id, LoggedModelStatus.READY)


def _models(client: "MlflowClient", run: "Run") -> "list[LoggedModel]":
    return list(
        client.search_logged_models([run.info.experiment_id], filter_string=f"source_run_id = '{run.info.run_id}'")
    )


def _write(folder: Path, restorer: RestorerFile, model: "LoggedModel") -> None:
    """Write the model in MLflow's format into a folder `model`."""
    from mlflow import pyfunc
    from mlflow.models import Model

    code = folder / "code"
    for path in restorer.code():
        copy = code / path.relative_to(PROJECT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    shutil.move(code.joinpath(*SCRIPT.split(".")).with_suffix(".py"), folder / "served_restorer.py")
    shutil.rmtree(code / "pipeline")
    description = Model(
        artifact_path=model.artifact_location,
        model_uuid=model.model_id,
        run_id=model.source_run_id,
        model_id=model.model_id,
    )
    logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow asks for type hints, which cannot describe images
        pyfunc.save_model(
            str(folder / "model"),
            python_model=str(folder / "served_restorer.py"),
            artifacts={NAME: str(restorer.weights)},
            code_paths=[str(code / "data"), str(code / "models")],
            model_config={"tile": restorer.tile, "overlap": restorer.overlap},
            signature=_signature(),
            input_example=_example(),
            pip_requirements=_requirements(restorer),
            mlflow_model=description,
        )


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    images = Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1, 3))])
    return ModelSignature(inputs=images, outputs=images)


def _example() -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """A grey ramp, (1, 32, 32, 3)."""
    ramp = np.linspace(0, 255, EXAMPLE).astype(np.uint8)
    return np.broadcast_to(ramp[None, :, None, None], (1, EXAMPLE, EXAMPLE, 3)).copy()


def _requirements(restorer: RestorerFile) -> list[str]:
    uses_spandrel = any(re.search(r"^\s*(from|import) spandrel", path.read_text(), re.M) for path in restorer.code())
    packages = [*PACKAGES, *(["spandrel"] if uses_spandrel else [])]
    return [f"{package}=={version(package).partition('+')[0]}" for package in packages]
