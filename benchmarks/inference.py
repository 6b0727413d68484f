"""The time of inference and of image quality, before and after each change, side by side.

    python -m benchmarks.inference

Networks have the shapes of params.yaml and random weights; images have the size of its drawn scenes. All ways run in
one process and take turns, so that other work on the machine slows all of them. Times are processor seconds.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from data.images import to_tensor
from models.diffusion.prior import DiffusionPrior
from models.diffusion.unet import build_scheduler, build_unet
from models.losses.diffusion_terms import DiffLossWithOptions, Settings
from models.restorers import build_restorer
from models.tasks import get_task
from models.tasks.contract import Task
from models.tasks.smp_networks import start_network
from pipeline.metrics.diffloss_terms import DiffLossTerms, fixed_steps
from pipeline.metrics.fidelity import Image, ssim, ssim_at_all_scales
from pipeline.reporting.pictures import jpeg
from pipeline.running.restoring import restore_batch, to_batch
from pipeline.settings.params import Params, load_params
from pipeline.settings.training import Restore

IMAGES = 8
VARIANTS = 3  # degraded, and two objectives
SMALLEST = 176  # pixels, for MS-SSIM

Ways = Mapping[str, Callable[[], object]]  # the first one is compared with


def quality_ways(params: Params, images: list[Image], versions: list[Image]) -> dict[str, tuple[Ways, int]]:
    """Measures of one image: {what: (ways, images that a way handles)}."""
    from skimage.metrics import structural_similarity
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as by_torch

    wang: dict[str, Any] = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    clean, image = images[0], versions[0]
    large, large_clean = (np.tile(array, (2, 1, 1))[:SMALLEST] for array in (image, clean))
    batch, clean_batch = (torch.from_numpy(array).permute(2, 0, 1)[None].float() for array in (large, large_clean))
    grid = np.concatenate([np.concatenate(images[:4], axis=1)] * 5)
    return {
        "SSIM": (
            {
                "scikit-image": lambda: structural_similarity(image, clean, channel_axis=2, data_range=255, **wang),
                "ours": lambda: ssim(image, clean),
            },
            1,
        ),
        "MS-SSIM": (
            {
                "torchmetrics": lambda: by_torch(batch, clean_batch, data_range=255.0),
                "ours": lambda: ssim_at_all_scales(large, large_clean)["MS-SSIM"],
            },
            1,
        ),
        "grid of pictures": ({"PNG": lambda: cv2.imencode(".png", grid), "JPEG": lambda: jpeg(grid)}, 1),
        "DiffLoss's terms": (_term_ways(params, images[0], versions[:VARIANTS]), VARIANTS),
    }


def _term_ways(params: Params, clean: Image, versions: list[Image]) -> Ways:
    prior = DiffusionPrior(
        build_unet(params.train_prior.network.model_dump()), build_scheduler({"steps": 1000, "kind": "linear"})
    )
    section = params.losses["diffloss"]
    view = {"view": section["view"], "view_sizes": section["view_sizes"]}
    steps = fixed_steps(section["timesteps"])
    losses = [DiffLossWithOptions(prior, Settings(timesteps=(step, step + 1), **view)) for step in steps]

    def one_by_one() -> None:
        with torch.inference_mode():
            for image in versions:
                for loss in losses:
                    _ = loss(*(to_tensor(array)[None] for array in (image, clean))).total

    named = dict(enumerate(versions))
    full, rounded = (DiffLossTerms(prior, section, 0, precision) for precision in ("full", "bf16"))
    return {
        "one timestep and variant at a time": one_by_one,
        "in batches, clean once": lambda: full.compare(clean, named, "a"),
        "and bf16": lambda: rounded.compare(clean, named, "a"),
    }


def network_ways(params: Params, images: list[Image]) -> dict[str, tuple[Ways, int]]:
    """Restoring and recognising some images."""
    restorer = build_restorer(params.train_restorer.restorer, params.train_restorer.network).eval()
    faster = build_restorer(params.train_restorer.restorer, params.train_restorer.network).eval()
    faster.to(memory_format=torch.channels_last)
    settings = {name: Restore(tile=None, overlap=0, precision=name) for name in ("full", "bf16")}

    def one_by_one() -> None:
        with torch.inference_mode():
            for image in images:
                restorer(to_tensor(image)[None])

    def in_batches(size: int, precision: str = "full") -> Callable[[], None]:
        def run() -> None:
            with torch.inference_mode():
                for start in range(0, len(images), size):
                    restore_batch(faster, to_batch(faster, images[start : start + size]), settings[precision])

        return run

    ways: dict[str, tuple[Ways, int]] = {
        "restore": (
            {
                "one by one": one_by_one,
                "channels_last": in_batches(1),
                "and bf16": in_batches(1, "bf16"),
                "batches": in_batches(8),
            },
            len(images),
        )
    }
    for name, task in _tasks(params).items():
        ways[name] = (_task_ways(task, images), len(images))
    return ways


def _task_ways(task: Task[Any], images: list[Image]) -> Ways:
    return {
        "one by one": lambda: [task.predict(image) for image in images],
        "batches": lambda: task.predict_batch(images),
    }


def _tasks(params: Params) -> dict[str, Task[Any]]:
    from ultralytics.nn.tasks import DetectionModel

    classes, device = ["car", "person", "sign"], torch.device("cpu")
    section = params.train_task["detection"]
    yolo = DetectionModel(section["model"], nc=len(classes), verbose=False)
    yolo.names = dict(enumerate(classes))
    settings = get_task("segmentation").parse_settings(params.train_task["segmentation"])
    network, description = start_network(settings.network, None, len(classes))
    return {
        "detection": get_task("detection")(yolo, classes, {"image_size": section["image_size"]}, device),
        "segmentation": get_task("segmentation")(network, classes, description, device),
    }


def milliseconds(ways: Ways, rounds: int, count: int) -> dict[str, float]:
    """Processor milliseconds of each way for an image: the least of several rounds in which all ways take turns."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            started = time.process_time()
            way()
            taken[name].append(1000 * (time.process_time() - started) / count)
    return {name: min(times[1:]) for name, times in taken.items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    torch.manual_seed(0)
    params, rng = load_params(Path("params.yaml")), np.random.default_rng(0)
    size = (params.data.sections["scenes"]["height"], params.data.sections["scenes"]["width"], 3)
    noise = [rng.integers(0, 256, size, dtype=np.uint8) for _ in range(IMAGES)]
    images = [np.asarray(cv2.GaussianBlur(image, (9, 9), 2), dtype=np.uint8) for image in noise]
    versions = [np.clip(image + rng.normal(0, 10, size), 0, 255).astype(np.uint8) for image in images]
    print("| what | way | processor ms for an image | times as fast |")
    print("|---|---|---|---|")
    for what, (ways, count) in {**quality_ways(params, images, versions), **network_ways(params, images)}.items():
        times = milliseconds(ways, options.rounds, count)
        first = next(iter(times.values()))
        for name, taken in times.items():
            print(f"| {what} | {name} | {taken:.1f} | {first / taken:.2f} |", flush=True)


if __name__ == "__main__":
    main()
