"""Stage train_task: the recognition network that will judge, trained once on clean images."""

from functools import partial
from pathlib import Path

from data.datasets import MaskBatches
from data.manifest import Dataset
from models.tasks import TaskError, get_task
from pipeline import runtime, tracking
from pipeline.params import load_params
from pipeline.training import Loop, checkpoint_folder, fingerprint


def _classes(clean: Dataset, task: str) -> list[str]:
    """The class names that the data have for a task.

    Raises:
        TaskError: none.
    """
    if not clean.info.classes.get(task):
        raise TaskError(
            f"{clean.folder}: the data {clean.info.name!r} have no classes for {task}, only for "
            f"{', '.join(clean.info.classes)}; take {task} out of tasks, or choose other data"
        )
    return clean.info.classes[task]


def main() -> None:
    """Command line."""
    options = runtime.arguments("task", "plan", "clean", "out", "costs")
    params = load_params()
    settings = params.task_settings(options.task)
    clean = Dataset.open(Path(options.clean))
    split = clean.split("train")
    classes = _classes(clean, options.task)
    made_of = Path(options.plan).read_text()  # the task's own code, and files from elsewhere
    work = checkpoint_folder(["pipeline.train_task"], params.seed, settings, made_of, fingerprint(split.folder))
    seed = runtime.seed_for(params.seed, "task", options.task)
    with tracking.live(clean.info.name, options.task, {"stage": "train_task"}, work.name, work.name) as stream:
        loop = Loop(f"train_task {options.task}", work, seed % 2**31, runtime.device(), stream)
        make_batches = partial(MaskBatches, split, seed)
        task = get_task(options.task).fit(split, make_batches, classes, settings, loop)
    with runtime.replacing_folder(Path(options.out)) as folder:
        task.save(folder)
        loop.write_curve(folder / "curve.csv")
    loop.write_costs(Path(options.costs), task.network)
    loop.finish()


if __name__ == "__main__":
    runtime.run_stage(main)
