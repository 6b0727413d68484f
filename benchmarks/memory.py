"""Peak memory of every stage at two numbers of images, which shows whether memory grows with the data.

    python -m benchmarks.memory [--images 200 2000] [--side 64]

Half of the images are training images, half are test images. Prints a table, the largest growth last.
"""

import argparse
from typing import Any

from ruamel.yaml import YAML

from benchmarks.stages import PROJECT, project, run

TINY = PROJECT / "params.tiny.yaml"


def params_for(images: int, side: int) -> dict[str, Any]:
    """The parameters of params.tiny.yaml with this many square images, one degradation and one objective."""
    params: dict[str, Any] = YAML(typ="safe").load(TINY)
    half = images // 2
    params["data"]["scenes"] = {"width": side, "height": side, "train": half, "val": 4, "test": half}
    params |= {"degradations": ["lowlight"], "objectives": ["diffloss"]}
    for task in ("detection", "segmentation"):
        params["train_task"][task] |= {"image_size": side} if task == "detection" else {"crop": side}
    return params


def peaks(images: int, side: int) -> dict[str, float]:
    """Peak MiB of every stage."""
    with project(params_for(images, side)) as folder:
        return {cost.stage: cost.peak_mib for cost in run(folder)}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Peak memory of every stage at two numbers of images.")
    parser.add_argument("--images", type=int, nargs=2, default=[200, 2000])
    parser.add_argument("--side", type=int, default=64)
    options = parser.parse_args()
    few, many = (peaks(images, options.side) for images in options.images)
    print(f"| stage | MiB at {options.images[0]} | MiB at {options.images[1]} | ratio |\n|---|---|---|---|")
    for stage in sorted(few, key=lambda stage: many[stage] / few[stage]):
        print(f"| {stage} | {few[stage]:.0f} | {many[stage]:.0f} | {many[stage] / few[stage]:.3f} |")


if __name__ == "__main__":
    main()
