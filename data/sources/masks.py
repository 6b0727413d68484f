"""Photos with index masks, one folder of each per split: the layout of CamVid.

Detection boxes come from the masks: every 8-connected component of a class that is listed as a thing
becomes one box, so that objects which touch count as one and objects cut in two count as two. That is a
property of the labels, stated in dataset.json.
"""

import glob
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from data import images
from data.manifest import IGNORE_INDEX, DatasetError, Sample

SPLITS = ("train", "val", "test")
SUFFIXES = {".png", ".jpg", ".jpeg"}


class Masks:
    """Images in `<root>/<split>`, 8-bit index masks of the same names in `<root>/<split>annot`.

    Args:
        root: the folder that holds the split folders; any of train, val and test may exist.
        settings: `name`; `classes`, the class names in index order; `ignored`, indices without a class;
            `things`, the classes whose connected components become boxes; `min_pixels`, the smallest
            component that does; `limit`, at most so many images for each split (evenly spaced), or None.
        seed: not used: nothing here is drawn.

    Raises:
        DatasetError: no split folder, an image without a mask, or a class that is not listed.
    """

    def __init__(self, root: Path, settings: Mapping[str, Any], seed: int) -> None:
        self.root = root
        self.settings = settings
        self.name: str = settings["name"]
        self.classes = {"detection": list(settings["things"]), "segmentation": list(settings["classes"])}
        self.description = {
            "source": "masks",
            "boxes": f"8-connected components of at least {settings['min_pixels']} pixels",
            "limit": dict(settings["limit"]),
        }
        self._class_of_index = _index_table(settings)
        unknown = set(settings["things"]) - set(settings["classes"])
        if unknown:
            raise DatasetError(
                f"data.masks.things: {', '.join(sorted(unknown))} not among the classes: "
                f"{', '.join(settings['classes'])}"
            )

    def split_ids(self) -> dict[str, list[str]]:
        """The ids of every split whose folder exists, sorted, thinned evenly to the limit."""
        found = {split: self._ids(split) for split in SPLITS if (self.root / split).is_dir()}
        if "train" not in found or len(found) < 2:
            raise DatasetError(
                f"{self.root}: expected the folders train, trainannot and val or test with their annot folders; "
                f"found {', '.join(found) or 'none of them'} (data.root in params.yaml)"
            )
        return {split: _thin(ids, self.settings["limit"].get(split)) for split, ids in found.items()}

    def sample(self, split: str, id: str) -> Sample:
        """Read one photo and its mask; a pure function of the files."""
        image = images.read_image(self._find(split, id))
        mask_file = self._mask_file(split, id)
        codes = images.read_mask(mask_file)
        if codes.shape != image.shape[:2]:
            raise DatasetError(f"{mask_file}: mask of {codes.shape} for an image of {image.shape[:2]}")
        mask = self._class_of_index[codes]
        strange = np.setdiff1d(codes[mask == IGNORE_INDEX], list(self.settings["ignored"]))
        if strange.size:
            raise DatasetError(
                f"{mask_file}: index {int(strange[0])} is neither one of the {len(self.settings['classes'])} "
                f"classes nor in data.masks.ignored"
            )
        return Sample(id=id, split=split, image=image, boxes=self._boxes(mask), mask=mask)

    def _boxes(self, mask: NDArray[np.uint8]) -> NDArray[np.float64]:
        height, width = mask.shape
        rows = []
        for thing, name in enumerate(self.settings["things"]):
            chosen = (mask == self.settings["classes"].index(name)).astype(np.uint8)
            _, _, stats, _ = cv2.connectedComponentsWithStats(chosen, connectivity=8)
            for left, top, w, h, area in stats[1:]:
                if area >= self.settings["min_pixels"]:
                    rows.append((thing, (left + w / 2) / width, (top + h / 2) / height, w / width, h / height))
        return np.array(rows, dtype=np.float64).reshape(-1, 5)

    def _ids(self, split: str) -> list[str]:
        ids = sorted(self._files(split))
        if not ids:
            raise DatasetError(f"{self.root / split}: no PNG or JPEG images in it")
        missing = [name for name in ids if not self._mask_file(split, name).exists()]
        if missing:
            raise DatasetError(
                f"{self._mask_file(split, missing[0])}: missing, and {len(missing) - 1} more masks of split {split}"
            )
        return ids

    def _files(self, split: str) -> dict[str, Path]:
        """Image files by id."""
        found: dict[str, Path] = {}
        for path in sorted((self.root / split).iterdir()):
            if path.suffix.lower() in SUFFIXES:
                if path.stem in found:
                    raise DatasetError(f"{path}: the same name as {found[path.stem].name}; rename one of them")
                found[path.stem] = path
        return found

    def _find(self, split: str, id: str) -> Path:
        matches = [path for path in (self.root / split).glob(f"{glob.escape(id)}.*") if path.suffix.lower() in SUFFIXES]
        return matches[0] if matches else self.root / split / f"{id}.png"

    def _mask_file(self, split: str, id: str) -> Path:
        return self.root / f"{split}annot" / f"{id}.png"


def _index_table(settings: Mapping[str, Any]) -> NDArray[np.uint8]:
    table = np.full(256, IGNORE_INDEX, dtype=np.uint8)
    table[: len(settings["classes"])] = np.arange(len(settings["classes"]))
    table[list(settings["ignored"])] = IGNORE_INDEX
    return table


def _thin(ids: list[str], limit: int | None) -> list[str]:
    if limit is None or limit >= len(ids):
        return ids
    return [ids[i] for i in np.linspace(0, len(ids) - 1, limit).round().astype(int)]
