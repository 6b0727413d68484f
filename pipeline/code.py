"""Stage code: one digest for every stage and plug-in, over the code that it runs.

DVC does not track imports. Every other stage depends on its own file here, so that a change in the code re-runs what
it reaches and nothing else:

    stages/<stage>              what the stage imports
    sources/<source>            the module of a plug-in, and what it imports
    tasks/<task>
    metrics/<task>
    restorers/<restorer>
    degradations/<degradation>  the modules of all effects in its recipe
    objectives/<objective>      the modules of all losses in its sum; of all restorers for the objective `frozen`
"""

from collections.abc import Iterator
from pathlib import Path

from data.degradations import DegradationError, effect_names
from pipeline.running.atomic_outputs import replacing_folder
from pipeline.running.digests import code_digest, stage_digest
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.settings.data import Unpaired
from pipeline.settings.grammar import CHECKPOINT, FROZEN, GrammarError, objective_losses
from pipeline.settings.params import Params, load_params
from pipeline.settings.plugins import PROJECT, plugin_modules


def code_digests(params: Params, root: Path = PROJECT) -> Iterator[tuple[str, str]]:
    """The name and the digest of every stage and plug-in.

    Names in params.yaml that do not exist are left out: the next stage, `plan`, reports them.
    """
    for stage in sorted(path.stem for path in (root / "pipeline").glob("*.py") if path.stem != "__init__"):
        yield f"stages/{stage}", stage_digest(stage, root)
    for kind in ("sources", "tasks", "metrics"):
        for name, module in plugin_modules(kind, root).items():
            yield f"{kind}/{name}", code_digest([module], root)
    restorers = plugin_modules("restorers", root)
    for name, module in restorers.items():  # a checkpoint can hold any of the others
        yield f"restorers/{name}", code_digest(list(restorers.values()) if name == CHECKPOINT else [module], root)
    for name in params.degradations:
        modules = degradation_modules(params, name, root)
        if modules is not None:
            yield f"degradations/{name}", code_digest(modules, root)
    losses = plugin_modules("losses", root)
    for name in params.objectives:
        try:
            modules = [losses[kind] for kind, _ in objective_losses(name, params.losses).values()]
            frozen = list(restorers.values()) if name == FROZEN else []  # its file can hold any of them
            yield f"objectives/{name}", code_digest([*modules, *frozen], root)
        except (GrammarError, KeyError):
            continue


def degradation_modules(params: Params, name: str, root: Path = PROJECT) -> list[str] | None:
    """The modules behind a degradation: its effects, and for unpaired real photos the source that reads them.

    Returns:
        None if there is no such degradation.
    """
    effects, sources = plugin_modules("effects", root), plugin_modules("sources", root)
    photos = params.degrade.real.get(name)
    if sweep := params.degrade.sweeps.get(name):
        name = sweep.recipe
    try:
        if not photos:
            return [effects[effect] for effect in effect_names(name, params.degrade.recipes)]
        if not isinstance(photos, Unpaired):
            return []
        stand_ins = [effects[effect] for effect in effect_names(photos.recipe, params.degrade.recipes)]
        return [*stand_ins, sources[photos.data.source]]
    except (DegradationError, KeyError):
        return None


def main() -> None:
    """Command line."""
    options = parse_arguments("out")
    with replacing_folder(Path(options.out)) as folder:
        for name, digest in code_digests(load_params()):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{digest}\n")


if __name__ == "__main__":
    run_stage(main)
