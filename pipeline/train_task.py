"""Stage train_task: the recognition network that will judge, trained once on clean images."""

from pathlib import Path

from data.manifest import Dataset
from pipeline import runtime, tracking
from pipeline.params import load_params
from pipeline.training.task import checkpoints, fit


def main() -> None:
    """Command line."""
    options = runtime.arguments("task", "plan", "clean", "out", "costs")
    params = load_params()
    clean = Dataset.open(Path(options.clean))
    work = checkpoints(params, options.task, Path(options.plan), clean)
    system = params.tracking.system_metrics
    with tracking.live(clean.info.name, options.task, {"stage": "train_task"}, work.name, work.name, system) as stream:
        task, loop = fit(params, options.task, clean, work, stream, f"train_task {options.task}")
    with runtime.replacing_folder(Path(options.out)) as folder:
        task.save(folder)
        loop.write_curve(folder / "curve.csv")
    loop.write_costs(Path(options.costs), task.network)
    loop.finish()


if __name__ == "__main__":
    runtime.run_stage(main)
