"""Stage train_task: the recognition network that will judge, trained once on clean images."""

from pathlib import Path

from data.dataset import Dataset
from pipeline.running.atomic_outputs import replacing_folder
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.settings.params import load_params
from pipeline.tracking import streaming
from pipeline.training.task_networks import checkpoints, fit


def main() -> None:
    """Command line."""
    options = parse_arguments("task", "plan", "clean", "out", "costs")
    params = load_params()
    clean = Dataset.open(Path(options.clean))
    work = checkpoints(params, options.task, Path(options.plan), clean)
    system = params.tracking.system_metrics
    with streaming.live(clean.info.name, options.task, {"stage": "train_task"}, work.name, work.name, system) as stream:
        task, loop = fit(params, options.task, clean, work, stream, f"train_task {options.task}")
    with replacing_folder(Path(options.out)) as folder:
        task.save(folder)
        loop.write_curve(folder / "curve.csv")
    loop.write_costs(Path(options.costs), task.network)
    loop.finish()


if __name__ == "__main__":
    run_stage(main)
