"""Stage arm: one task evaluated on the images of one arm, whose network is trained on them if the arm is retrained."""

from pathlib import Path

from data.dataset import Dataset
from models.tasks import get_task
from pipeline.metrics.evaluation import evaluate
from pipeline.running.atomic_outputs import replacing_folder
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.running.seeds import choose_device
from pipeline.settings.params import load_params
from pipeline.training.task_networks import task_checkpoint_folder, train_task_network


def main() -> None:
    """Command line."""
    options = parse_arguments("task", "arm", "plan", "images", "network", "out")
    params = load_params()
    images = Dataset.open(Path(options.images))
    name = f"{options.task} on {options.arm}"
    loop = None
    if "train" in images.info.splits:
        work = task_checkpoint_folder(params, options.task, Path(options.plan), images)
        task, loop = train_task_network(params, options.task, images, work, lambda step, values: None, f"train {name}")
    else:
        task = get_task(options.task).load(Path(options.network), choose_device())
    with replacing_folder(Path(options.out)) as out:
        for split in images.evaluation_splits:
            truth = images.split(split)
            evaluate(task, truth, truth.image, out / split, f"{name} {split}")
    if loop:
        loop.finish()


if __name__ == "__main__":
    run_stage(main)
