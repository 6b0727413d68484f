"""Make the pictures and the tables of docs/reference/degradations.md.

    python -m benchmarks.degradation_sheet [--folder docs] [--scene 0]

Draws one scene with its depth, degrades it by every recipe at every severity into two picture sheets, and
rewrites the parts of that page between `<!-- begin ... -->` and `<!-- end ... -->`: the settings tables,
from the same tables that the code reads.
"""

import argparse
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from data.degradations import EFFECTS, RECIPES, SEVERITIES, degrade, get_effect
from data.sources.scenes import Scenes
from pipeline.commands.reference import replace_parts

Image = NDArray[np.uint8]

WIDTH, HEIGHT = 320, 240  # of the scene
TILE = (160, 120)  # of one picture on the sheet, width and height
SEED = 3  # of the scene and of every degradation
QUALITY = 56  # of the sheets' JPEG
HEADER, MARGIN = 15, 3  # pixels
TEXT = "reference/degradations.md"  # below the folder of the documentation
PICTURES = "pictures"

OWN = [name for name, recipe in RECIPES.items() if not recipe.fixed and not name.startswith("coco-c-")]
COCO_C = [name for name, recipe in RECIPES.items() if not recipe.fixed and name.startswith("coco-c-")]


def picture_sheet(names: list[str], image: Image, depth: NDArray[np.float32]) -> Image:
    """One row for each recipe, columns: clean and the severities; uint8 RGB (H, W, 3)."""
    rows = []
    for name in names:
        tiles = [_tile(image), *(_tile(degrade(image, name, severity, SEED, depth)) for severity in SEVERITIES)]
        titles = [name, *(f"severity {severity}" for severity in SEVERITIES)]
        rows.append(np.hstack([np.vstack([_title(text), tile]) for text, tile in zip(titles, tiles, strict=True)]))
    return np.vstack(rows)


def settings_table(prefix: str = "") -> str:
    """A Markdown table of effects, settings, units and the value at each severity."""
    lines = ["| recipe | setting | unit or meaning | 1 | 2 | 3 | 4 | 5 |", "|---|---|---|---|---|---|---|---|"]
    for name in EFFECTS:
        effect = get_effect(name)
        if name.startswith("coco-c-") != (prefix == "coco-c-"):
            continue
        for index, (key, setting) in enumerate(effect.settings.items()):
            value = effect.severities[key]
            shown = [_words(v) for v in value] if isinstance(value, tuple) else [_words(value)] * len(SEVERITIES)
            unit = ", ".join(filter(None, [setting.unit, " or ".join(setting.choices)]))
            first = f"`{name}`" if index == 0 else ""
            lines.append(f"| {first} | {key} | {unit} | {' | '.join(shown)} |")
    return "\n".join(lines)


def sources_table() -> str:
    """A Markdown table: where each recipe of our own comes from, and what it does with depth and pixels."""
    lines = ["| recipe | source | depth | moves pixels |", "|---|---|---|---|"]
    for name in EFFECTS:
        effect = get_effect(name)
        if not name.startswith("coco-c-"):
            depth, moves = ("yes" if flag else "" for flag in (effect.uses_depth, effect.moves_pixels))
            lines.append(f"| `{name}` | {effect.source} | {depth} | {moves} |")
    return "\n".join(lines)


def fill(text: str) -> str:
    """The document with its generated parts replaced.

    Raises:
        ValueError: a part is missing in the document.
    """
    parts = {"settings": settings_table(), "sources": sources_table(), "coco-c settings": settings_table("coco-c-")}
    return replace_parts(TEXT, text, parts)


def _words(value: Any) -> str:
    if isinstance(value, list):
        return "drawn" if not value else " to ".join(_words(end) for end in value)
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _tile(image: Image) -> Image:
    tile = cv2.resize(image, TILE, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.copyMakeBorder(tile, 0, 0, 0, MARGIN, cv2.BORDER_CONSTANT, value=(255,) * 3), dtype=np.uint8)


def _title(text: str) -> Image:
    bar = np.full((HEADER, TILE[0] + MARGIN, 3), 255, np.uint8)
    cv2.putText(bar, text, (2, HEADER - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (0, 0, 0), 1, cv2.LINE_AA)
    return bar


def _write(path: Path, sheet: Image) -> None:
    done, buffer = cv2.imencode(".jpg", sheet[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise ValueError(f"{path}: OpenCV could not encode the sheet")
    path.write_bytes(buffer.tobytes())
    print(f"{path}: {sheet.shape[1]} x {sheet.shape[0]}, {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Write the sheets and the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("docs"))
    parser.add_argument("--scene", type=int, default=0, help="which scene of the test split")
    options = parser.parse_args()
    settings = {"width": WIDTH, "height": HEIGHT, "train": 1, "val": 1, "test": options.scene + 1}
    scene = Scenes(Path(), settings, SEED).scene("test", f"{options.scene:05d}")
    for file, names in (("degradations.jpg", OWN), ("degradations-coco-c.jpg", COCO_C)):
        _write(options.folder / PICTURES / file, picture_sheet(names, scene.image, scene.depth))
    text = options.folder / TEXT
    text.write_text(fill(text.read_text()))
    print(f"{text}: tables written")


if __name__ == "__main__":
    main()
