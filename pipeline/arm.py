"""Stage arm: one task evaluated on the images of one arm.

If the arm is a retrained one, the network is trained on these images first; if it is a joint one, with the restorer.
Such networks are scored on clean images, too. `retraining.repeats` trains and scores them with further seeds.
"""

import shutil
from argparse import Namespace
from functools import partial
from pathlib import Path

from data.batches import PairBatches
from data.dataset import Dataset
from models.restorers import save_restorer
from models.restorers.contract import Restorer
from models.tasks.contract import Task
from pipeline.metrics.evaluation import evaluate, load_network
from pipeline.running.artifacts import (
    JOINT_FILE,
    NETWORKS_FOLDER,
    ON_CLEAN_FOLDER,
    arm_images_folder,
    trained_file,
    training_split,
)
from pipeline.running.atomic_outputs import read_json, replacing, replacing_folder
from pipeline.running.digests import checkpoint_folder, fingerprint
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.running.restoring import open_restorer, restored_image
from pipeline.running.seeds import seed_for
from pipeline.settings.grammar import Arm, arm_error, parse_arm
from pipeline.settings.params import Params, ParamsError, load_params
from pipeline.settings.plugins import plugin_modules
from pipeline.settings.training import Restore, restorer_modules
from pipeline.training.joint import LabelledPairs, joint_objective, train_jointly
from pipeline.training.loop import Loop, no_stream
from pipeline.training.task_networks import task_checkpoint_folder, task_seed, train_task_network

TRAIN = "train"
FINISHED_FOLDER = "finished"  # beside the checkpoint of a training: its networks and costs, until all are evaluated
COSTS_FILE = "costs.json"


def main() -> None:
    """Command line."""
    names = "task", "arm", "degradation", "plan", "images", "network", "clean", "degraded", "restorers", "prior"
    options = parse_arguments(*names, "out", "costs")
    params, arm = load_params(), parse_arm(options.arm)
    if arm is None:
        raise ParamsError(f"--arm: {arm_error(options.arm, params.objectives)}")
    finished: list[Path] = []
    with replacing_folder(Path(options.out)) as out:
        for number in range(1, params.retraining.repeats + 1 if arm.retrained else 2):
            text = f"{options.task} on {options.arm}" + (f" {number}" if number > 1 else "")
            images = Dataset.open(arm_images_folder(Path(options.images), number if arm.images_by_training else 1))
            if not arm.retrained:
                task, restorer = load_network(options.task, Path(options.network)), None
            else:
                train = _train_jointly if arm.joint else _retrain
                folder = train(options, params, arm, images, number, f"train {text}")
                task = load_network(options.task, folder)
                restorer = open_restorer(trained_file(folder)) if arm.joint else None
                finished.append(folder)
            _evaluate_all(task, images, restorer, params.restore, out, number, text)
            if arm.retrained:
                on_clean = Dataset.open(images.folder / ON_CLEAN_FOLDER)
                _evaluate_all(task, on_clean, restorer, params.restore, out / ON_CLEAN_FOLDER, number, f"{text}, clean")
        if arm.joint:
            shutil.copytree(finished[0], out / NETWORKS_FOLDER, ignore=shutil.ignore_patterns(COSTS_FILE))
    with replacing(Path(options.costs)) as scratch:
        scratch.write_text((finished[0] / COSTS_FILE).read_text() if finished else "{}\n")
    for folder in finished:
        shutil.rmtree(folder)


def _evaluate_all(
    task: Task, images: Dataset, restorer: Restorer | None, settings: Restore, out: Path, number: int, text: str
) -> None:
    """Evaluate on all evaluation splits of a dataset, through the restorer of a joint arm."""
    for name in images.evaluation_splits:
        split = images.split(name)
        restore = partial(restored_image, restorer, settings=settings) if restorer else None
        evaluate(task, split, split.image, out / training_split(name, number), f"{text} {name}", restore=restore)


def _retrain(options: Namespace, params: Params, arm: Arm, images: Dataset, number: int, text: str) -> Path:
    """Train the task's network on the arm's images, unless it is finished. Returns its folder."""
    network = Path(options.network)
    if params.task_settings(options.task).get("frozen"):
        load_network(options.task, network).require_own_classes()
    seed, section = task_seed(params.seed, options.task, number), params.retraining_settings(options.task)
    start = network if params.retraining.start == "clean" else None
    work = task_checkpoint_folder(seed, options.task, section, Path(options.plan), images, start)
    if not (work / FINISHED_FOLDER).exists():
        task, loop = train_task_network(seed, options.task, section, images, work, no_stream, text, start)
        _keep(loop, task)
    return work / FINISHED_FOLDER


def _keep(loop: Loop, task: Task, restorer: Restorer | None = None) -> None:
    """Write what a training has made beside its checkpoint, so that a kill in a later training costs only that one."""
    with replacing_folder(loop.work / FINISHED_FOLDER) as folder:
        task.save(folder)
        if restorer:
            save_restorer(trained_file(folder), restorer)
        loop.write_costs(folder / COSTS_FILE, task.network)
    loop.finish()


def _train_jointly(options: Namespace, params: Params, arm: Arm, images: Dataset, number: int, text: str) -> Path:
    """Train the clean-trained network and the restorer together, unless they are finished. Returns their folder."""
    joint, description = params.retraining.joint, read_json(images.folder / JOINT_FILE, "losses", "restorer")
    degraded, clean = (Dataset.open(Path(path)).split(TRAIN) for path in (options.degraded, options.clean))
    task, section = load_network(options.task, Path(options.network)), params.retraining_settings(options.task)
    chosen = task.parse_settings(section)
    trained = params.train_restorer.of(arm.source)
    changes = {"steps": task.training_steps(section, len(clean.ids)), "batch": chosen.batch, "crop": joint.crop}
    changes |= {"learning_rate": trained.learning_rate * joint.restorer_rate, "warm_up": 0, "ema": None}
    settings = trained.model_copy(update=changes)

    seed = seed_for(params.seed, "joint", options.task, *([number] if number > 1 else []))
    pairs = PairBatches(
        degraded, clean, settings.crop, settings.batch, seed, clean_share=settings.clean_share, labels=task.labels
    )
    tasks = plugin_modules("tasks")
    code = ["pipeline.training.joint", tasks[options.task], *restorer_modules(settings.restorer)]
    identity = [params.seed, settings.used, joint.model_dump(), section, description, Path(options.plan).read_text()]
    data = fingerprint(degraded.folder, clean.folder, Path(options.network))
    work = checkpoint_folder(code, *identity, data, number)
    if (work / FINISHED_FOLDER).exists():
        return work / FINISHED_FOLDER
    loop = Loop(text, work, seed % 2**31, task.device)
    restorer = train_jointly(
        trained_file(Path(options.restorers) / arm.source, number),
        task,
        LabelledPairs(pairs),
        joint_objective(description, task, joint, Path(options.prior), options.degradation),
        settings,
        chosen.learning_rate * joint.task_rate,
        joint,
        loop,
        task.view_scale(*clean.image(clean.ids[0]).shape[:2]),
    )
    _keep(loop, task, restorer)
    return work / FINISHED_FOLDER


if __name__ == "__main__":
    run_stage(main)
