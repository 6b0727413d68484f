"""Classification scores stored per image: its class and the class that was predicted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.metrics.records import (
    RecordsError,
    check_weights,
    mean_of_defined,
    names_of,
    ratio,
    read_kind,
    write_arrays,
)


@dataclass(frozen=True)
class ClassificationRecords:
    """True and predicted class indices of N images and C classes."""

    kind: ClassVar[str] = "classification"

    image_ids: tuple[str, ...]
    class_names: tuple[str, ...]
    truth: NDArray[np.int64]  # (N,)
    predicted: NDArray[np.int64]  # (N,)

    @classmethod
    def gather(
        cls, truth: Mapping[str, int], predicted: Mapping[str, int], class_names: Sequence[str]
    ) -> "ClassificationRecords":
        """Records of {image id: class index}; images are put in the order of their ids.

        Raises:
            RecordsError: the two are not of the same images, or a class index is outside 0..C-1.
        """
        if not truth or truth.keys() != predicted.keys():
            raise RecordsError(f"expected predictions of {len(truth)} images with labels, got {len(predicted)}")
        for name in truth:
            for what, index in (("class", truth[name]), ("prediction", predicted[name])):
                if not 0 <= index < len(class_names):
                    raise RecordsError(f"image {name!r}: expected a {what} of 0..{len(class_names) - 1}, got {index}")
        ids = tuple(sorted(truth))
        columns = [np.array([table[name] for name in ids], np.int64) for table in (truth, predicted)]
        return cls(ids, tuple(class_names), *columns)

    def metrics(self, weights: ArrayLike | None = None) -> dict[str, NDArray[np.float64]]:
        """Shares of images whose likeliest class is the true one, in each of R resamples.

        Accuracy is over all images; balanced accuracy is the mean over the classes that occur in the resample
        of the share within the class. NaN where no image is taken.

        Args:
            weights: (R, N) how often each image is taken; None: each once, R = 1.

        Returns:
            {"accuracy": (R,), "balanced accuracy": (R,)}, in [0, 1]

        Raises:
            RecordsError: weights of another shape, negative or not finite.
        """
        taken = check_weights(weights, len(self.image_ids))
        right = (self.truth == self.predicted).astype(np.float64)
        return {
            "accuracy": ratio(taken @ right, taken.sum(axis=1)),
            "balanced accuracy": mean_of_defined(self._recall(taken)),
        }

    def per_class(self, weights: ArrayLike | None = None) -> dict[str, dict[str, NDArray[np.float64]]]:
        """{class name: {"recall": (R,)}}, NaN where no image of the class is taken."""
        recall = self._recall(check_weights(weights, len(self.image_ids)))
        return {name: {"recall": recall[:, index]} for index, name in enumerate(self.class_names)}

    def class_objects(self) -> dict[str, int]:
        """How many images of each class there are."""
        counts = np.bincount(self.truth, minlength=len(self.class_names))
        return dict(zip(self.class_names, counts.tolist(), strict=True))

    def image_scores(self) -> dict[str, NDArray[np.float64]]:
        """{"accuracy": (N,)}, 1 where the class is right and 0 where it is not."""
        return {"accuracy": (self.truth == self.predicted).astype(np.float64)}

    def _recall(self, taken: NDArray[np.float64]) -> NDArray[np.float64]:
        """(R, C)."""
        member = np.eye(len(self.class_names))[self.truth]
        right = member * (self.truth == self.predicted)[:, None]
        return ratio(taken @ right, taken @ member)

    def save(self, path: Path) -> None:
        """Write an .npz file; the same records give the same bytes."""
        names = {"image_ids": np.array(self.image_ids, str), "class_names": np.array(self.class_names, str)}
        write_arrays(path, self.kind, {**names, "truth": self.truth, "predicted": self.predicted})

    @classmethod
    def load(cls, path: Path) -> "ClassificationRecords":
        """Read what `save` wrote.

        Raises:
            RecordsError: the file is missing or broken, or holds other records.
        """
        stored = read_kind(path, cls.kind)
        names = names_of(stored, "image_ids"), names_of(stored, "class_names")
        return cls(*names, stored["truth"], stored["predicted"])
