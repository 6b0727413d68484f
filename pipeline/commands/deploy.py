"""Command: one restorer of a finished run as an ONNX file, checked against PyTorch, with a card.

    python -m pipeline.deploy --degradation fog --objective diffloss

The folder gets restorer.onnx, MODEL_CARD.md and measured.json. A file that differs from PyTorch is not written.
"""

import json
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from data import images
from data.dataset import Split
from models.restorers import load_restorer
from models.restorers.contract import Restorer
from models.restorers.onnx_file import export_onnx, load_onnx
from pipeline.commands.finished_runs import NEXT, Finished, FinishedError, add_choice
from pipeline.commands.model_card import Exported, card
from pipeline.commands.parity import check_parity, measure_latency
from pipeline.running.artifacts import TRAINING
from pipeline.running.atomic_outputs import replacing_output
from pipeline.running.entry import run_command
from pipeline.running.restoring import restore_batch as restore

CARD = "MODEL_CARD.md"
ONNX = "restorer.onnx"
MEASURED = "measured.json"
CLOSE = 2  # grey levels that the same weights may differ by on another processor


def check_scores_are_of(restorer: Restorer, run: Finished, split: Split) -> None:
    """Restore an image again, and compare it with the one that was scored.

    Raises:
        FinishedError: they differ, so that the report's scores are of other weights.
    """
    name = split.folder.name if run.training == 1 else f"{split.folder.name}{TRAINING}{run.training}"
    path = run.folder("restore") / name / f"{split.ids[0]}.png"
    with torch.inference_mode():
        restored = restore(restorer, images.to_tensor(split.image(split.ids[0]))[None], run.params.restore)[0]
    stored = images.read_image(path).astype(np.int64)
    if np.abs(images.to_uint8(restored) - stored).max() > CLOSE:
        raise FinishedError(f"{path}: was not restored by {run.weights} as it is now; {NEXT}")


def deploy(run: Finished, out: Path, licence: str | None) -> Exported:
    """Write restorer.onnx, MODEL_CARD.md and measured.json into a folder.

    Raises:
        models.restorers.RestorerError: the network cannot be exported.
        ParityError: the ONNX file does not give what PyTorch gives.
        FinishedError: the finished run lacks something, or its scores are of other weights.
    """
    run.check_params()
    restorer = load_restorer(run.weights)
    split = run.degraded.split(run.degraded.evaluation_splits[-1])  # of several severities the last
    check_scores_are_of(restorer, run, split)
    with replacing_output(out, CARD) as folder:
        export_onnx(restorer, folder / ONNX)
        found = load_onnx(folder / ONNX)
        parity = check_parity(restorer, found, split)
        latency = measure_latency(restorer, found, split.image(split.ids[0]))
        exported = Exported(restorer, folder / ONNX, parity, latency, licence)
        (folder / CARD).write_text(card(run, exported))
        measured = {"parity": [asdict(one) for one in parity], "latency": asdict(latency)}
        (folder / MEASURED).write_text(json.dumps(measured, indent=1) + "\n")
    return exported


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m pipeline.commands.deploy", description=__doc__)
    add_choice(parser)
    parser.add_argument("--out", type=Path, help="folder (deployed/<degradation>-<objective>)")
    parser.add_argument("--licence", help="of the weights, for the card")
    return parser.parse_args()


def main() -> None:
    """Command line."""
    options = _options()
    run = Finished.chosen(options)
    out = options.out or Path("deployed") / f"{run.degradation}-{run.objective}"
    exported = deploy(run, out, options.licence)
    worst, latency = max(one.difference for one in exported.parity), exported.latency
    print(
        f"{out / ONNX}: differs from PyTorch by {worst:.1e} at most; {latency.onnx_milliseconds:g} ms for "
        f"{latency.width}x{latency.height} pixels, PyTorch {latency.torch_milliseconds:g} ms, "
        f"{latency.threads} thread(s). {out / CARD} says what it is."
    )


if __name__ == "__main__":
    run_command(main)
