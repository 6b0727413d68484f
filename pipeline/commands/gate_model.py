"""The gate: a regression that predicts from an image and a network's output on it whether restoring helps."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics.detection_records import SURE

GATE_FILE = "gate.json"
ALWAYS, NEVER = "always", "never"  # thresholds of a constant gate, which needs no features
FOLDS = 5
FEWEST_IMAGES = 10
PENALTIES = np.logspace(-1, 4, 11)
LEAST_CONFIDENCE = 0.05  # detections below it are left out
TOP = 10  # detections
TINY = 1e-8

Image = NDArray[np.uint8]
Features = dict[str, float]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class GateError(ValueError):
    """A gate cannot be fitted or read. The text says why, and what to do."""


def image_features(image: Image) -> Features:
    """Statistics of a uint8 RGB image (H, W, 3), on the scale [0, 1].

    - haze: the mean of each pixel's darkest channel, after He et al., "Single image haze removal using dark channel
      prior", CVPR 2009.
    - noise: the standard deviation by Immerkaer, "Fast noise variance estimation", 1996.
    - entropy: of the grey levels, in bits.
    """
    colour = image.astype(np.float64) / 255
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.float64) / 255
    low, high = np.quantile(grey, [0.05, 0.95])
    brightest, darkest = colour.max(axis=2), colour.min(axis=2)
    levels = np.bincount((grey * 255).astype(np.int64).ravel(), minlength=256) / grey.size
    return {
        "brightness": float(grey.mean()),
        "contrast": float(grey.std()),
        "dark": float(low),
        "bright": float(high),
        "haze": float(darkest.mean()),
        "saturation": float(((brightest - darkest) / (brightest + TINY)).mean()),
        "sharpness": float(np.log(cv2.Laplacian(grey, cv2.CV_64F).var() + TINY)),
        "noise": _noise(grey),
        "entropy": _entropy(levels) / float(np.log(2)),
    }


def output_features(prediction: Any) -> Features:
    """Statistics of a task network's prediction on one image, for any task.

    Raises:
        GateError: there are no statistics for this kind of prediction.
    """
    if isinstance(prediction, np.ndarray):
        return _mask_features(prediction)
    if hasattr(prediction, "scores"):
        return _object_features(np.asarray(prediction.scores, dtype=np.float64))
    if hasattr(prediction, "score"):
        return {"confidence": float(prediction.score)}
    raise GateError(f"no statistics of a {type(prediction).__name__} are known. Add them to {__name__}.")


def _object_features(scores: NDArray[np.float64]) -> Features:
    scores = scores[scores >= LEAST_CONFIDENCE]
    top = np.sort(scores)[::-1][:TOP]
    entropy = -(scores * np.log(scores + TINY) + (1 - scores) * np.log(1 - scores + TINY))
    return {
        "sure objects": float(np.log1p((scores >= SURE).sum())),
        "unsure objects": float(np.log1p((scores < SURE).sum())),
        "best confidence": float(top[0]) if len(top) else 0.0,
        "mean confidence": float(top.sum()) / TOP,
        "doubt": float(entropy.mean()) if len(scores) else 0.0,
    }


def _mask_features(mask: NDArray[np.integer]) -> Features:
    """`borders` is the share of neighbouring pixels with different classes."""
    shares = np.bincount(mask.ravel()) / mask.size
    return {
        "class entropy": _entropy(shares),
        "largest class": float(shares.max()),
        "borders": float(((mask[1:] != mask[:-1]).mean() + (mask[:, 1:] != mask[:, :-1]).mean()) / 2),
    }


def _entropy(shares: NDArray[np.float64]) -> float:
    """The entropy of shares that sum to 1, in nats."""
    present = shares[shares > 0]
    return float(-(present * np.log(present)).sum())


def _noise(grey: NDArray[np.float64]) -> float:
    """The standard deviation of noise in a grey image (H, W)."""
    kernel = np.array([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])
    response = np.abs(cv2.filter2D(grey, cv2.CV_64F, kernel))
    return float(np.sqrt(np.pi / 2) / 6 * response.mean())


@dataclass(frozen=True)
class Gate:
    """Restores the images whose predicted gain is above a threshold; the threshold may also be "always" or "never".

    The predicted gain is intercept + sum of coefficient * (feature - mean) / scale, in the score of a single image.
    """

    threshold: float | str
    features: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    coefficients: tuple[float, ...]
    intercept: float
    penalty: float

    def predict(self, cases: pd.DataFrame) -> Floats:
        """The predicted gains (N,), from a table whose columns include the features."""
        values = cases[list(self.features)].to_numpy(dtype=np.float64)
        scaled = (values - np.array(self.mean)) / np.array(self.scale)
        return np.asarray(scaled @ np.array(self.coefficients) + self.intercept, dtype=np.float64)

    def restores(self, predicted: Floats) -> Bools:
        """Which images (N,) to restore, by their predicted gains."""
        return above_threshold(predicted, self.threshold)

    def decide(self, features: Features) -> bool:
        """Whether to restore one image."""
        return bool(self.restores(self.predict(pd.DataFrame([features])))[0])

    def save(self, path: Path, about: dict[str, Any]) -> None:
        """Write the gate as JSON; `about` names the task, degradation and restorer that it was fitted for."""
        path.write_text(json.dumps({"of": about, **asdict(self)}, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> tuple["Gate", dict[str, Any]]:
        """The gate and its description, as `save` wrote them.

        Raises:
            GateError: the file is missing or holds no gate.
        """
        try:
            content = json.loads(path.read_text())
            about = dict(content.pop("of"))
            fields: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
            }
            return cls(**fields), about
        except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            raise GateError(
                f"{path}: not a gate ({error}). Write one with `python -m pipeline.commands.gate`."
            ) from error


@dataclass(frozen=True)
class Fitted:
    """A gate with cross-fitted predictions: the gain (N,) of each image as predicted by a model of the other folds."""

    gate: Gate
    predicted: Floats


def fit(cases: pd.DataFrame, features: Sequence[str], seed: int) -> Fitted:
    """Fit a gate.

    The threshold is chosen on the cross-fitted predictions. "always" and "never" are among the candidates. Another
    threshold is taken only if its mean score exceeds the better of them by more than one standard error. So the gate
    is never worse than either on these images, and does not follow noise.

    Args:
        cases: columns image, group, before, after (scores of the degraded and of the restored image) and the features.
            Rows of the same group, such as the frames of one video, stay in one fold.
        features: names of the feature columns.
        seed: of the folds.

    Raises:
        GateError: fewer than ten images, or than five groups.
    """
    from sklearn.model_selection import GroupKFold

    count, groups = cases.image.nunique(), cases.group.to_numpy()
    if count < FEWEST_IMAGES:
        raise GateError(
            f"the gate needs at least {FEWEST_IMAGES} images to be fitted on, there are {count}. Enlarge the split."
        )
    if (group_count := len(np.unique(groups))) < FOLDS:
        raise GateError(
            f"the gate needs images of at least {FOLDS} groups (videos, sites) to be fitted on, there are "
            f"{group_count}. Enlarge the split."
        )
    values, gains = cases[list(features)].to_numpy(dtype=np.float64), (cases.after - cases.before).to_numpy()
    predicted = np.empty(len(cases))
    folds = GroupKFold(FOLDS, shuffle=True, random_state=seed % 2**32)
    for rest, held_out in folds.split(values, gains, groups):
        predicted[held_out] = _ridge(values[rest], gains[rest]).predict(values[held_out])
    model = _ridge(values, gains)
    scaler, ridge = model[0], model[1]
    gate = Gate(
        threshold=choose_threshold(predicted, gains, groups),
        features=tuple(features),
        mean=tuple(scaler.mean_.tolist()),
        scale=tuple(scaler.scale_.tolist()),
        coefficients=tuple(ridge.coef_.tolist()),
        intercept=float(ridge.intercept_),
        penalty=float(ridge.alpha_),
    )
    return Fitted(gate, predicted)


def choose_threshold(predicted: Floats, gains: Floats, groups: NDArray[Any]) -> float | str:
    """The threshold with the largest mean score, or a constant if that is not clearly better.

    Args:
        predicted: (N,) predicted gains.
        gains: (N,) true gains.
        groups: (N,) the group that each gain belongs to; the standard error is that of the groups' means.
    """
    constant = better_constant(gains)
    levels = np.unique(predicted)
    candidates = (levels[1:] + levels[:-1]) / 2
    if not len(candidates):
        return constant
    means = np.array([np.where(predicted > level, gains, 0).mean() for level in candidates])
    best = float(candidates[means.argmax()])
    with_best = np.where(above_threshold(predicted, best), gains, 0)
    with_constant = np.where(above_threshold(predicted, constant), gains, 0)
    advantage = with_best - with_constant
    by_group = pd.Series(advantage).groupby(groups).mean()
    is_better = by_group.mean() > by_group.std() / np.sqrt(len(by_group)) and advantage.mean() > 0
    return best if is_better else constant


def better_constant(gains: Floats) -> str:
    """Restoring always or never, whichever has the larger mean score; never if they are equal."""
    return ALWAYS if gains.mean() > 0 else NEVER


def above_threshold(predicted: Floats, threshold: float | str) -> Bools:
    """Which images (N,) have a predicted gain above the threshold, which may be "always" or "never"."""
    if isinstance(threshold, str):
        return np.full(len(predicted), threshold == ALWAYS)
    return predicted > threshold


def _ridge(values: Floats, gains: Floats) -> Any:
    """A ridge regression of standardised features, its penalty chosen by leave-one-out."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), RidgeCV(alphas=PENALTIES)).fit(values, gains)
