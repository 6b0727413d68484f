"""Command: write one restorer of a completed run as an ONNX file, checked against PyTorch, with a model card.

    python -m pipeline.commands.deploy --degradation fog --objective diffloss

The output folder gets restorer.onnx, MODEL_CARD.md and measured.json. An ONNX file that differs from PyTorch is not
kept.
"""

import json
import platform
import statistics
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from data import images
from data.dataset import Split
from models.restorers import load_restorer
from models.restorers.contract import Restorer
from models.restorers.onnx_file import export_onnx, load_onnx
from pipeline.commands.completed_runs import ADVICE, CompletedRun, CompletedRunError, add_restorer_options
from pipeline.commands.model_card import TOLERANCE, Exported, Latency, Parity, model_card, read_report
from pipeline.running.artifacts import training_split
from pipeline.running.atomic_outputs import replacing_output
from pipeline.running.entry import run_command
from pipeline.running.restoring import restore_batch

CARD = "MODEL_CARD.md"
ONNX = "restorer.onnx"
MEASURED = "measured.json"
GREY_LEVELS = 2  # largest difference that the same weights may give on another processor
PARITY_IMAGES = 4
SMALL_SIDE = 33  # pixels; odd, so that every network must pad it
PASSES, WARM_UP = 15, 2

Image = NDArray[np.uint8]


class ParityError(ValueError):
    """The output of the exported restorer differs from PyTorch's."""


def deploy(run: CompletedRun, out: Path, licence: str | None) -> Exported:
    """Write restorer.onnx, MODEL_CARD.md and measured.json into the folder `out`.

    Raises:
        models.restorers.RestorerError: the network cannot be exported.
        ParityError: the output of the ONNX file differs from PyTorch's.
        CompletedRunError: a result is missing, or the scores belong to other weights.
    """
    run.check_params()
    rows = read_report(run)
    restorer = load_restorer(run.weights)
    split = run.degraded.split(run.degraded.evaluation_splits[-1])  # the highest severity if there are several
    check_scored_weights(restorer, run, split)
    with replacing_output(out, CARD) as folder:
        export_onnx(restorer, folder / ONNX)
        onnx_restorer = load_onnx(folder / ONNX)
        parity = check_parity(restorer, onnx_restorer, split)
        latency = measure_latency(restorer, onnx_restorer, split.image(split.ids[0]))
        exported = Exported(restorer, folder / ONNX, parity, latency, licence)
        (folder / CARD).write_text(model_card(run, rows, exported))
        measured = {"parity": [asdict(comparison) for comparison in parity], "latency": asdict(latency)}
        (folder / MEASURED).write_text(json.dumps(measured, indent=1) + "\n")
    return exported


def check_scored_weights(restorer: Restorer, run: CompletedRun, split: Split) -> None:
    """Restore one image again, and compare it with the stored image that the report scored.

    Raises:
        CompletedRunError: they differ: the report's scores belong to other weights.
    """
    name = training_split(split.folder.name, run.training)
    path = run.folder("restore") / name / f"{split.ids[0]}.png"
    with torch.inference_mode():
        restored = restore_batch(restorer, images.to_tensor(split.image(split.ids[0]))[None], run.params.restore)[0]
    stored = images.read_image(path).astype(np.int64)
    if np.abs(images.to_uint8(restored) - stored).max() > GREY_LEVELS:
        raise CompletedRunError(f"{path}: was not restored by the current weights {run.weights}. {ADVICE}")


def check_parity(restorer: Restorer, onnx_restorer: Restorer, split: Split) -> list[Parity]:
    """Compare both restorers on real images: whole, cut to odd sizes, small, larger, and two at once.

    Args:
        restorer: in PyTorch, on the CPU, in eval mode.
        onnx_restorer: the ONNX file. Its graph is compared without the padding that the contract adds.
        split: the images come from it.

    Raises:
        ParityError: a difference is 1e-4 or more.
    """
    parity = []
    for batch in _parity_batches([split.image(image_id) for image_id in split.evenly_spaced(PARITY_IMAGES)]):
        with torch.inference_mode():
            difference = (restorer(batch) - onnx_restorer.network(batch)).abs().max().item()
        height, width = batch.shape[-2:]
        if not difference < TOLERANCE:
            raise ParityError(
                f"the ONNX file of this {restorer.name} differs from PyTorch by {difference:.2g} on images of "
                f"{width}x{height} pixels ({TOLERANCE:g} is allowed): its graph is not the same for every image size. "
                "Deploy another restorer."
            )
        parity.append(Parity(height, width, len(batch), difference))
    return parity


def _parity_batches(whole: Sequence[Image]) -> Iterator[torch.Tensor]:
    """Batches (N, 3, H, W) in [0, 1] of several sizes, from uint8 images (H, W, 3)."""
    image = whole[0]
    height, width = image.shape[:2]
    small = image[: min(height, SMALL_SIDE), : min(width, SMALL_SIDE)]
    odd = image[: 2 * (height // 4) + 1, : 2 * (width // 3) + 1]
    larger = np.pad(image, ((0, height // 2), (0, width // 3), (0, 0)), mode="symmetric")
    for version in (*whole, odd, small, larger):
        yield images.to_tensor(version)[None]
    yield torch.stack([images.to_tensor(small), images.to_tensor(small[::-1])])


def measure_latency(restorer: Restorer, onnx_restorer: Restorer, image: Image) -> Latency:
    """Median times of both restorers on one uint8 image (H, W, 3), in turns, with the same number of threads."""
    batch = images.to_tensor(image)[None]
    restorers: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"torch": restorer, "onnx": onnx_restorer}
    seconds: dict[str, list[float]] = {name: [] for name in restorers}
    with torch.inference_mode():
        for _ in range(WARM_UP + PASSES):
            for name, restore in restorers.items():
                started = time.perf_counter()
                restore(batch)
                seconds[name].append(time.perf_counter() - started)
    medians = {name: round(1000 * statistics.median(times[WARM_UP:]), 2) for name, times in seconds.items()}
    processor = platform.processor() or platform.machine()
    height, width = image.shape[:2]
    return Latency(height, width, medians["torch"], medians["onnx"], torch.get_num_threads(), processor)


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m pipeline.commands.deploy", description=__doc__)
    add_restorer_options(parser)
    parser.add_argument("--out", type=Path, help="output folder (deployed/<degradation>-<objective>)")
    parser.add_argument("--licence", help="licence of the weights, for the model card")
    return parser.parse_args()


def main() -> None:
    """Command line."""
    options = _options()
    run = CompletedRun.from_options(options)
    out = options.out or Path("deployed") / f"{run.degradation}-{run.objective}"
    exported = deploy(run, out, options.licence)
    largest, latency = max(comparison.difference for comparison in exported.parity), exported.latency
    print(
        f"{out / ONNX}: differs from PyTorch by {largest:.1e} at most; {latency.onnx_milliseconds:g} ms for "
        f"{latency.width}x{latency.height} pixels, PyTorch {latency.torch_milliseconds:g} ms, "
        f"{latency.threads} thread(s). The model card is {out / CARD}."
    )


if __name__ == "__main__":
    run_command(main)
