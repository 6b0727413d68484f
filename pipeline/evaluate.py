"""Stage evaluate: one task on clean, degraded and restored images of one degradation."""

from pathlib import Path

from data.images import read_image
from data.manifest import Dataset
from models.tasks import get_task
from pipeline import runtime
from pipeline.evaluation import evaluate
from pipeline.identity import CLEAN, DEGRADED, trainings
from pipeline.params import load_params


def main() -> None:
    """Command line."""
    options = runtime.arguments("task", "network", "clean", "degraded", "restored", "out")
    params = load_params()
    clean, degraded = (Dataset.open(Path(path)) for path in (options.clean, options.degraded))
    task = get_task(options.task).load(Path(options.network), runtime.device())
    with runtime.replacing_folder(Path(options.out)) as out:
        if degraded.has_clean_images:
            truth = clean.split(clean.evaluation_split)
            evaluate(task, truth, truth.image, out / CLEAN / clean.evaluation_split, f"{options.task} on {CLEAN}")
        for split in degraded.evaluation_splits:
            folders = {(DEGRADED, split): degraded.folder / split / "images"}
            for objective in params.objectives:
                restored = trainings(Path(options.restored) / objective, split)
                folders |= {(objective, folder.name): folder for folder in restored}
            for (variant, name), folder in folders.items():
                evaluate(
                    task,
                    degraded.split(split),
                    lambda id, folder=folder: read_image(folder / f"{id}.png"),  # type: ignore[misc]
                    out / variant / name,
                    f"{options.task} on {variant} {name}",
                )


if __name__ == "__main__":
    runtime.run_stage(main)
