"""Stage arm: one task evaluated on the images of one arm.

If the arm is a retrained one, the network is trained on these images first; if it is a joint one, with the restorer.
Such networks are scored on clean images, too.
"""

from argparse import Namespace
from functools import partial
from pathlib import Path

from data.batches import PairBatches
from data.dataset import Dataset
from models.restorers import save_restorer
from models.restorers.contract import Restorer
from models.tasks import get_task
from models.tasks.contract import Task
from pipeline.metrics.evaluation import evaluate, load_network
from pipeline.running.artifacts import JOINT_FILE, NETWORKS_FOLDER, ON_CLEAN_FOLDER, trained_file
from pipeline.running.atomic_outputs import read_json, replacing, replacing_folder
from pipeline.running.digests import checkpoint_folder, fingerprint
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.running.restoring import restored_image
from pipeline.running.seeds import choose_device, seed_for
from pipeline.settings.grammar import parse_arm
from pipeline.settings.params import Params, load_params
from pipeline.settings.plugins import plugin_modules
from pipeline.settings.training import Restore, restorer_modules
from pipeline.training.joint import LabelledPairs, joint_objective, train_jointly
from pipeline.training.loop import Loop
from pipeline.training.task_networks import task_checkpoint_folder, train_task_network

TRAIN = "train"


def main() -> None:
    """Command line."""
    names = "task", "arm", "degradation", "plan", "images", "network", "clean", "degraded", "restorers", "prior"
    options = parse_arguments(*names, "out", "costs")
    params, images, arm = load_params(), Dataset.open(Path(options.images)), parse_arm(options.arm)
    restorer: Restorer | None = None
    loop: Loop | None = None
    if arm and arm.joint:
        task, restorer, loop = _train_jointly(options, params, arm.source)
    elif TRAIN in images.info.splits:
        task, loop = _retrain(options, params, images)
    else:
        task = load_network(options.task, Path(options.network))
    with replacing_folder(Path(options.out)) as out:
        _evaluate_all(task, images, restorer, params.restore, out, f"{options.task} on {options.arm}")
        if TRAIN in images.info.splits:
            on_clean, text = Dataset.open(images.folder / ON_CLEAN_FOLDER), f"{options.task} of {options.arm} on clean"
            _evaluate_all(task, on_clean, restorer, params.restore, out / ON_CLEAN_FOLDER, text)
        if restorer:
            (out / NETWORKS_FOLDER).mkdir()
            save_restorer(trained_file(out / NETWORKS_FOLDER), restorer)
            task.save(out / NETWORKS_FOLDER)
    if loop:
        loop.write_costs(Path(options.costs), task.network)
        loop.finish()
    else:
        with replacing(Path(options.costs)) as scratch:
            scratch.write_text("{}\n")


def _evaluate_all(
    task: Task, images: Dataset, restorer: Restorer | None, settings: Restore, out: Path, text: str
) -> None:
    """Evaluate on all evaluation splits of a dataset, through the restorer of a joint arm."""
    for name in images.evaluation_splits:
        split = images.split(name)
        restore = partial(restored_image, restorer, settings=settings) if restorer else None
        evaluate(task, split, split.image, out / name, f"{text} {name}", restore=restore)


def _retrain(options: Namespace, params: Params, images: Dataset) -> tuple[Task, Loop]:
    """The task's network trained on the arm's images."""
    start = Path(options.network) if params.retraining.start == "clean" else None
    work = task_checkpoint_folder(params, options.task, Path(options.plan), images, start)
    text = f"train {options.task} on {options.arm}"
    return train_task_network(params, options.task, images, work, lambda step, values: None, text, start)


def _train_jointly(options: Namespace, params: Params, objective: str) -> tuple[Task, Restorer, Loop]:
    """The task's network that was trained on clean images and the objective's restorer, trained together."""
    joint, description = params.retraining.joint, read_json(Path(options.images) / JOINT_FILE, "losses", "restorer")
    degraded, clean = (Dataset.open(Path(path)).split(TRAIN) for path in (options.degraded, options.clean))
    task, section = (
        get_task(options.task).load(Path(options.network), choose_device()),
        params.task_settings(options.task),
    )
    chosen = task.parse_settings(section)
    trained = params.train_restorer.of(objective)
    changes = {"steps": task.training_steps(section, len(clean.ids)), "batch": chosen.batch, "crop": joint.crop}
    changes |= {"learning_rate": trained.learning_rate * joint.restorer_rate, "warm_up": 0, "ema": None}
    settings = trained.model_copy(update=changes)

    seed = seed_for(params.seed, "joint", options.task)
    pairs = PairBatches(
        degraded, clean, settings.crop, settings.batch, seed, clean_share=settings.clean_share, labels=task.labels
    )
    tasks = plugin_modules("tasks")
    code = ["pipeline.training.joint", tasks[options.task], *restorer_modules(settings.restorer)]
    identity = [params.seed, settings.used, joint.model_dump(), section, description, Path(options.plan).read_text()]
    data = fingerprint(degraded.folder, clean.folder, Path(options.network))
    loop = Loop(
        f"train {options.task} on {options.arm}", checkpoint_folder(code, *identity, data), seed % 2**31, task.device
    )
    restorer = train_jointly(
        trained_file(Path(options.restorers) / objective),
        task,
        LabelledPairs(pairs),
        joint_objective(description, task, joint, Path(options.prior), options.degradation),
        settings,
        chosen.learning_rate * joint.task_rate,
        joint,
        loop,
        task.view_scale(*clean.image(clean.ids[0]).shape[:2]),
    )
    return task, restorer, loop


if __name__ == "__main__":
    run_stage(main)
