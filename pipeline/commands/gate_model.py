"""What the gate sees: statistics of the degraded image, and of the network's own output on it. Not a stage."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.tasks import get_task
from pipeline.metrics.detection_records import SURE
from pipeline.running.seeds import choose_device

UNSURE = 0.05  # below that confidence a detection says nothing
TOP = 10  # detections
TINY = 1e-8

Image = NDArray[np.uint8]
Features = dict[str, float]


class GateError(ValueError):
    """A gate that cannot be fitted or read; the text says why and what to do."""


def image_features(image: Image) -> Features:
    """Statistics of uint8 RGB (H, W, 3), of images in [0, 1].

    `haze` is the mean of each pixel's darkest channel (after He et al., "Single image haze removal using dark channel
    prior", CVPR 2009); `noise` the standard deviation by Immerkaer, "Fast noise variance estimation", 1996; `entropy`
    that of the grey levels, in bits.
    """
    colour = image.astype(np.float64) / 255
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.float64) / 255
    low, high = np.quantile(grey, [0.05, 0.95])
    most, least = colour.max(axis=2), colour.min(axis=2)
    levels = np.bincount((grey * 255).astype(np.int64).ravel(), minlength=256) / grey.size
    return {
        "brightness": float(grey.mean()),
        "contrast": float(grey.std()),
        "dark": float(low),
        "bright": float(high),
        "haze": float(least.mean()),
        "saturation": float(((most - least) / (most + TINY)).mean()),
        "sharpness": float(np.log(cv2.Laplacian(grey, cv2.CV_64F).var() + TINY)),
        "noise": _noise(grey),
        "entropy": _entropy(levels) / float(np.log(2)),
    }


def output_features(prediction: Any) -> Features:
    """Statistics of a task network's prediction, of whichever task.

    Raises:
        GateError: a prediction of a kind that has no statistics here.
    """
    if isinstance(prediction, np.ndarray):
        return _of_mask(prediction)
    if hasattr(prediction, "scores"):
        return _of_objects(np.asarray(prediction.scores, dtype=np.float64))
    if hasattr(prediction, "score"):
        return {"confidence": float(prediction.score)}
    raise GateError(f"no statistics of a {type(prediction).__name__} are known; add them to {__name__}")


def _of_objects(scores: NDArray[np.float64]) -> Features:
    seen = scores[scores >= UNSURE]
    top = np.sort(seen)[::-1][:TOP]
    doubt = -(seen * np.log(seen + TINY) + (1 - seen) * np.log(1 - seen + TINY))
    return {
        "sure objects": float(np.log1p((seen >= SURE).sum())),
        "unsure objects": float(np.log1p((seen < SURE).sum())),
        "best confidence": float(top[0]) if len(top) else 0.0,
        "mean confidence": float(top.sum()) / TOP,
        "doubt": float(doubt.mean()) if len(seen) else 0.0,
    }


def _of_mask(mask: NDArray[np.integer]) -> Features:
    """`borders` is the share of neighbouring pixels with different classes: a torn mask has many."""
    shares = np.bincount(mask.ravel()) / mask.size
    return {
        "class entropy": _entropy(shares),
        "largest class": float(shares.max()),
        "borders": float(((mask[1:] != mask[:-1]).mean() + (mask[:, 1:] != mask[:, :-1]).mean()) / 2),
    }


def _entropy(shares: NDArray[np.float64]) -> float:
    """In nats."""
    present = shares[shares > 0]
    return float(-(present * np.log(present)).sum())


def _noise(grey: NDArray[np.float64]) -> float:
    kernel = np.array([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])
    found = np.abs(cv2.filter2D(grey, cv2.CV_64F, kernel))
    return float(np.sqrt(np.pi / 2) / 6 * found.mean())


ALWAYS, NEVER = "always", "never"
FOLDS = 5
FEWEST_IMAGES = 10
PENALTIES = np.logspace(-1, 4, 11)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Gate:
    """Restore where the predicted gain is above the threshold; a threshold of `always` or `never` asks nothing.

    The predicted gain is intercept + sum of coefficient * (feature - mean) / scale, in the image's own score.
    """

    threshold: float | str
    features: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    coefficients: tuple[float, ...]
    intercept: float
    penalty: float

    def predict(self, cases: pd.DataFrame) -> Floats:
        """The gain (N,) that restoring is expected to bring, from a table with the features as columns."""
        values = cases[list(self.features)].to_numpy(dtype=np.float64)
        scaled = (values - np.array(self.mean)) / np.array(self.scale)
        return np.asarray(scaled @ np.array(self.coefficients) + self.intercept, dtype=np.float64)

    def restores(self, predicted: Floats) -> Bools:
        """Which images (N,) are to be restored, by their predicted gains."""
        return decide(predicted, self.threshold)

    def decide(self, features: Features) -> bool:
        """Whether one image is to be restored."""
        return bool(self.restores(self.predict(pd.DataFrame([features])))[0])

    def save(self, path: Path, about: dict[str, Any]) -> None:
        """Write it as JSON, with what it is of."""
        path.write_text(json.dumps({"of": about, **asdict(self)}, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> tuple["Gate", dict[str, Any]]:
        """Read what `save` wrote.

        Raises:
            GateError: the file is missing or holds no gate.
        """
        try:
            content = json.loads(path.read_text())
            about = dict(content.pop("of"))
            values: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in content.items()}
            return cls(**values), about
        except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            raise GateError(f"{path}: not a gate that `python -m pipeline.commands.gate` wrote ({error})") from error


@dataclass(frozen=True)
class Fitted:
    """A gate, and the gains (N,) that it would have predicted for the images that it was fitted on, had it not been:
    each by a model fitted on the other folds.
    """

    gate: Gate
    predicted: Floats


def fit(cases: pd.DataFrame, features: Sequence[str], seed: int) -> Fitted:
    """Fit a gate.

    The threshold is chosen on the cross-fitted predictions. Always and never are among the candidates, and another one
    is taken only where its mean score is above the better of them by more than one standard error: so the gate is
    never worse than either on these images, and does not follow noise.

    Args:
        cases: image, before, after (the image's own score, degraded and restored) and the features, a row a case.
            Rows of one image stay in one fold.
        features: names of columns.
        seed: of the folds.

    Raises:
        GateError: fewer than ten images.
    """
    from sklearn.model_selection import GroupKFold

    images = cases.image.to_numpy()
    count = len(np.unique(images))
    if count < FEWEST_IMAGES:
        raise GateError(
            f"the gate needs {FEWEST_IMAGES} images or more to be fitted on, there are {count}: enlarge that split"
        )
    values, gains = cases[list(features)].to_numpy(dtype=np.float64), (cases.after - cases.before).to_numpy()
    predicted = np.empty(len(cases))
    folds = GroupKFold(FOLDS, shuffle=True, random_state=seed % 2**32)
    for rest, held_out in folds.split(values, gains, images):
        predicted[held_out] = _ridge(values[rest], gains[rest]).predict(values[held_out])
    model = _ridge(values, gains)
    scaler, ridge = model[0], model[1]
    gate = Gate(
        threshold=choose_threshold(predicted, gains, images),
        features=tuple(features),
        mean=tuple(scaler.mean_.tolist()),
        scale=tuple(scaler.scale_.tolist()),
        coefficients=tuple(ridge.coef_.tolist()),
        intercept=float(ridge.intercept_),
        penalty=float(ridge.alpha_),
    )
    return Fitted(gate, predicted)


def choose_threshold(predicted: Floats, gains: Floats, images: NDArray[Any]) -> float | str:
    """The threshold with the largest mean score, or a constant where that is not clearly better.

    Args:
        predicted: (N,) gains.
        gains: (N,) true ones.
        images: (N,) which image each is of; the standard error is that of their means.
    """
    constant = better_constant(gains)
    levels = np.unique(predicted)
    candidates = (levels[1:] + levels[:-1]) / 2
    if not len(candidates):
        return constant
    means = np.array([np.where(predicted > level, gains, 0).mean() for level in candidates])
    best = float(candidates[means.argmax()])
    over = np.where(decide(predicted, best), gains, 0) - np.where(decide(predicted, constant), gains, 0)
    by_image = pd.Series(over).groupby(images).mean()
    return best if by_image.mean() > by_image.std() / np.sqrt(len(by_image)) and over.mean() > 0 else constant


def better_constant(gains: Floats) -> str:
    """Restoring always or never, whichever has the larger mean score; never where they are equal."""
    return ALWAYS if gains.mean() > 0 else NEVER


def decide(predicted: Floats, threshold: float | str) -> Bools:
    """Which images are to be restored."""
    if isinstance(threshold, str):
        return np.full(len(predicted), threshold == ALWAYS)
    return predicted > threshold


def _ridge(values: Floats, gains: Floats) -> Any:
    """Ridge regression of standardised features; the penalty by leave-one-out."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), RidgeCV(alphas=PENALTIES)).fit(values, gains)


GATE_FILE = "gate.json"


class Gated:
    """Restores an image where the gate says so, and gives it back as it is elsewhere.

    Args:
        restore: uint8 RGB (H, W, 3) to the same.
        gate: the folder that `python -m pipeline.commands.gate` wrote.
        network: the folder of the task's network that the gate was fitted with.

    Attributes:
        kept: how many images were given back as they are.

    Raises:
        GateError: no gate, or no network of its task.
    """

    def __init__(self, restore: Callable[[Image], Image], gate: Path, network: Path) -> None:
        self._restore, self.kept = restore, 0
        self._gate, about = Gate.load(gate / GATE_FILE)
        name = str(about["task"])
        if not network.is_dir():
            raise GateError(f"--network {network}: no such folder; this gate needs the network of {name}")
        try:
            self._task = get_task(name).load(network, choose_device())
        except (OSError, KeyError, ValueError) as error:
            raise GateError(f"--network {network}: not a network of {name}, which this gate needs ({error})") from error

    def __call__(self, image: Image) -> Image:
        if self._says_restore(image):
            return self._restore(image)
        self.kept += 1
        return image

    def _says_restore(self, image: Image) -> bool:
        if isinstance(self._gate.threshold, str):
            return {ALWAYS: True, NEVER: False}[self._gate.threshold]
        return self._gate.decide(image_features(image) | output_features(self._task.predict(image)))
