"""Time of a degraded image: every recipe beside the nearest corruption of imagecorruptions, in one run.

    python -m benchmarks.degrade [--repeats 7] [--recipes fog snow] [--images 200]

Prints milliseconds an image at 480x360 on one core: for each severity the fastest of the repeats, then the mean over
the five severities; ours and theirs take turns, so that other load on the machine meets both. Then the speed-up of
two worker processes over one on `--images` images of mixed recipes.

imagecorruptions is no dependency of the project. Where it cannot be imported its columns stay empty. It needs an
older setuptools, and brings an OpenCV of its own, so give it an environment of its own:

    uv venv compare
    uv pip install -p compare "setuptools<81" imagecorruptions==1.1.2 numpy==2.4.6 scipy==1.17.1 scikit-image==0.26.0 \
        pillow==13.0.0 joblib==1.6.0
    compare/bin/python -m benchmarks.degrade

Two of its calls no longer exist in NumPy 2 and scikit-image 0.26 (`np.float_`, `gaussian(multichannel=...)`); they are
given back to it here, else fog, glass blur, Gaussian blur and spatter would not run.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from types import ModuleType
from typing import Any

import cv2
import joblib
import numpy as np
from numpy.typing import NDArray
from skimage import data as photos

from data.degradations import RECIPES, SEVERITIES, degrade

Image = NDArray[np.uint8]
NEAREST = {
    "lowlight": "shot_noise",
    "night": "shot_noise",
    "fog": "fog",
    "rain": "spatter",
    "snow": "snow",
    "noise": "gaussian_noise",
    "noise-poisson": "shot_noise",
    "noise-iso": "shot_noise",
    "blur": "defocus_blur",
    "blur-motion": "motion_blur",
    "blur-gaussian": "gaussian_blur",
    "jpeg": "jpeg_compression",
    "lowres": "pixelate",
    "shear": "elastic_transform",
    "ia-yolo-fog": "fog",
    "edtr-mix-a": "jpeg_compression",
    "edtr-mix-b": "gaussian_blur",
}
GOALS = {"fog", "snow", "blur-motion", "noise-poisson"} | {
    f"coco-c-{name}" for name in ("fog", "snow", "motion_blur", "shot_noise", "zoom_blur")
}
GOAL = 3.0
RECIPE_NAMES = [name for name, recipe in RECIPES.items() if not recipe.fixed] + ["edtr-mix-a", "edtr-mix-b"]
MIXED = ("lowlight", "fog", "rain", "blur-motion")


@cache
def load_corrupt() -> Callable[..., Image] | None:
    """The `corrupt` of imagecorruptions, adapted to current libraries, or None if it cannot be imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            corruptions: Any = import_module("imagecorruptions.corruptions")
            corrupt: Callable[..., Image] = import_module("imagecorruptions").corrupt
        except ImportError:
            return None
    smooth = corruptions.gaussian

    def gaussian(image: Image, sigma: float, multichannel: bool = False, **others: Any) -> Image:
        return smooth(image, sigma, channel_axis=-1 if multichannel else None, **others)

    old = ModuleType("numpy")
    old.__dict__.update({name: getattr(np, name) for name in dir(np)}, float_=np.float64)
    corruptions.gaussian, corruptions.np = gaussian, old
    return corrupt


def photo() -> Image:
    """(360, 480, 3): a photo that scikit-image ships."""
    return np.ascontiguousarray(photos.astronaut()[:360, :480])


def fastest(calls: list[Callable[[], object]], repeats: int) -> list[float]:
    """Milliseconds of each call, the fastest of the repeats, taking turns."""
    best = [float("inf")] * len(calls)
    for _ in range(repeats):
        for index, call in enumerate(calls):
            start = time.perf_counter()
            call()
            best[index] = min(best[index], 1000 * (time.perf_counter() - start))
    return best


def compare(name: str, corrupt: Callable[..., Image] | None, repeats: int) -> tuple[float, float]:
    """Mean milliseconds over the severities: ours, and theirs (nan where there is none)."""
    image, nearest = photo(), NEAREST.get(name, name.removeprefix("coco-c-"))
    times = []
    for severity in SEVERITIES:
        calls: list[Callable[[], object]] = [partial(degrade, image, name, severity, 0)]
        if corrupt:
            calls.append(partial(corrupt, image, severity=severity, corruption_name=nearest))
        slow = nearest == "glass_blur"
        times.append(fastest(calls, 1 if slow else repeats))
    means = np.mean(times, axis=0)
    return float(means[0]), float(means[1]) if corrupt else float("nan")


def speed_up(images: int) -> float:
    """How many times faster two worker processes are than one, on images of mixed recipes."""
    image, seconds = photo(), []
    for workers in (1, 2):
        with joblib.Parallel(n_jobs=workers, backend="loky") as pool:
            pool(joblib.delayed(_one)(image, seed) for seed in range(2 * workers))  # start the workers
            start = time.perf_counter()
            pool(joblib.delayed(_one)(image, seed) for seed in range(images))
            seconds.append(time.perf_counter() - start)
    return seconds[0] / seconds[1]


def _one(image: Image, seed: int) -> int:
    cv2.setNumThreads(1)
    return int(degrade(image, MIXED[seed % len(MIXED)], 3, seed).sum())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--recipes", nargs="*", default=RECIPE_NAMES)
    parser.add_argument("--images", type=int, default=600, help="for the speed-up of two workers; 0 = leave it out")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    corrupt = load_corrupt()
    print("imagecorruptions: " + ("found" if corrupt else "not installed, its columns are empty"))
    print(f"{'recipe':28}{'ours, ms':>10}{'nearest':>20}{'theirs, ms':>12}{'times faster':>14}")
    for name in options.recipes:
        ours, theirs = compare(name, corrupt, options.repeats)
        nearest = NEAREST.get(name, name.removeprefix("coco-c-"))
        goal = "" if name not in GOALS or np.isnan(theirs) else "  ok" if theirs >= GOAL * ours else "  below the goal"
        print(f"{name:28}{ours:10.1f}{nearest:>20}{theirs:12.1f}{theirs / ours:14.1f}{goal}", flush=True)
    if options.images:
        print(f"two workers on {options.images} images: {speed_up(options.images):.2f} times one")


if __name__ == "__main__":
    main()
