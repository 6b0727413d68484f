"""Stage train_task: the task network that scores images, trained once on clean images."""

from pathlib import Path

from data.dataset import Dataset
from pipeline.running.atomic_outputs import replacing_folder
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.settings.params import load_params
from pipeline.tracking import streaming
from pipeline.tracking.configurations import training_configuration
from pipeline.training.task_networks import task_checkpoint_folder, task_seed, train_task_network


def main() -> None:
    """Command line."""
    options = parse_arguments("task", "plan", "clean", "out", "costs")
    params = load_params()
    clean = Dataset.open(Path(options.clean))
    stage, name = "train_task", options.task
    seed, section = task_seed(params.seed, name), params.task_settings(name)
    work = task_checkpoint_folder(seed, name, section, Path(options.plan), clean)
    configuration = training_configuration(params, stage, name, section)
    tracking = params.tracking.model_dump()
    with streaming.live(clean.info.name, name, {"stage": stage}, configuration, work.name, **tracking) as stream:
        task, loop = train_task_network(seed, name, section, clean, work, stream, f"train_task {name}")
    with replacing_folder(Path(options.out)) as folder:
        task.save(folder)
        loop.write_curve(folder / "curve.csv")
    loop.write_costs(Path(options.costs), task.network)
    loop.finish()


if __name__ == "__main__":
    run_stage(main)
