"""Stage train_task: the recognition network that will judge, trained once on clean images."""

from functools import partial
from pathlib import Path

from data.datasets import MaskBatches
from data.manifest import Dataset
from models.tasks import get_task
from pipeline import runtime, tracking
from pipeline.params import load_params
from pipeline.training import Loop, checkpoint_folder, fingerprint


def main() -> None:
    """Command line."""
    options = runtime.arguments("task", "plan", "clean", "out", "costs")
    params = load_params()
    settings = params.task_settings(options.task)
    clean = Dataset.open(Path(options.clean))
    classes = clean.info.classes_of(options.task)
    split = clean.split("train")
    made_of = Path(options.plan).read_text()  # the task's own code, and files from elsewhere
    work = checkpoint_folder(["pipeline.train_task"], params.seed, settings, made_of, fingerprint(split.folder))
    seed = runtime.seed_for(params.seed, "task", options.task)
    system = params.tracking.system_metrics
    with tracking.live(clean.info.name, options.task, {"stage": "train_task"}, work.name, work.name, system) as stream:
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
