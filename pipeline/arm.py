"""Stage arm: one task evaluated on the images of one arm.

If the arm is a retrained one, the network is trained on these images first; if it is a joint one, with the restorer.
Such networks are scored on clean images, too. `retraining.repeats` trains and scores them with further seeds.
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
from pipeline.running.restoring import restored_image
from pipeline.running.seeds import choose_device, seed_for
from pipeline.settings.grammar import parse_arm
from pipeline.settings.params import Params, load_params
from pipeline.settings.plugins import plugin_modules
from pipeline.settings.training import Restore, restorer_modules
from pipeline.training.joint import LabelledPairs, joint_objective, train_jointly
from pipeline.training.loop import Loop, no_stream
from pipeline.training.task_networks import (
    require_own_classes,
    task_checkpoint_folder,
    task_seed,
    train_task_network,
)

TRAIN = "train"


def main() -> None:
    """Command line."""
    names = "task", "arm", "degradation", "plan", "images", "network", "clean", "degraded", "restorers", "prior"
    options = parse_arguments(*names, "out", "costs")
    params, loops = load_params(), list[Loop]()
    images = Dataset.open(Path(options.images))
    repeats = params.retraining.repeats if TRAIN in images.info.splits else 1
    with replacing_folder(Path(options.out)) as out:
        for number in range(1, repeats + 1):
            further = arm_images_folder(Path(options.images), number)
            images = Dataset.open(further) if further.exists() else images  # without a restorer all have the same
            text = f"{options.task} on {options.arm}" + (f" {number}" if number > 1 else "")
            task, restorer, loop = _network(options, params, images, number, f"train {text}")
            _evaluate_all(task, images, restorer, params.restore, out, number, text)
            if loop:
                on_clean = Dataset.open(images.folder / ON_CLEAN_FOLDER)
                _evaluate_all(task, on_clean, restorer, params.restore, out / ON_CLEAN_FOLDER, number, f"{text}, clean")
                loops.append(loop)
            if restorer and number == 1:
                (out / NETWORKS_FOLDER).mkdir()
                save_restorer(trained_file(out / NETWORKS_FOLDER), restorer)
                task.save(out / NETWORKS_FOLDER)
    if loops:
        loops[0].write_costs(Path(options.costs), task.network)
        for loop in loops:
            loop.finish()
    else:
        with replacing(Path(options.costs)) as scratch:
            scratch.write_text("{}\n")


def _network(
    options: Namespace, params: Params, images: Dataset, number: int, text: str
) -> tuple[Task, Restorer | None, Loop | None]:
    """The network that scores the arm, the restorer of a joint arm, and the loop that trained them."""
    arm, clean_trained = parse_arm(options.arm), load_network(options.task, Path(options.network))
    if arm and arm.retrained:
        require_own_classes(clean_trained)
    if arm and arm.joint:
        return _train_jointly(options, params, arm.source, number, text)
    if TRAIN not in images.info.splits:
        return clean_trained, None, None
    seed, section = task_seed(params.seed, options.task, number), params.retraining_settings(options.task)
    start = Path(options.network) if params.retraining.start == "clean" else None
    work = task_checkpoint_folder(seed, options.task, section, Path(options.plan), images, start)
    task, loop = train_task_network(seed, options.task, section, images, work, no_stream, text, start)
    return task, None, loop


def _evaluate_all(
    task: Task, images: Dataset, restorer: Restorer | None, settings: Restore, out: Path, number: int, text: str
) -> None:
    """Evaluate on all evaluation splits of a dataset, through the restorer of a joint arm."""
    for name in images.evaluation_splits:
        split = images.split(name)
        restore = partial(restored_image, restorer, settings=settings) if restorer else None
        evaluate(task, split, split.image, out / training_split(name, number), f"{text} {name}", restore=restore)


def _train_jointly(
    options: Namespace, params: Params, objective: str, number: int, text: str
) -> tuple[Task, Restorer, Loop]:
    """The task's network that was trained on clean images and the objective's restorer, trained together."""
    joint, description = params.retraining.joint, read_json(Path(options.images) / JOINT_FILE, "losses", "restorer")
    degraded, clean = (Dataset.open(Path(path)).split(TRAIN) for path in (options.degraded, options.clean))
    task, section = (
        get_task(options.task).load(Path(options.network), choose_device()),
        params.retraining_settings(options.task),
    )
    chosen = task.parse_settings(section)
    trained = params.train_restorer.of(objective)
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
    loop = Loop(text, checkpoint_folder(code, *identity, data, number), seed % 2**31, task.device)
    restorer = train_jointly(
        trained_file(Path(options.restorers) / objective, number),
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
