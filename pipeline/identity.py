"""What makes a row of the comparison the same row: the parameters that it depends on. Not a stage."""

import hashlib
import json

from pipeline.params import Params

CLEAN = "clean"
DEGRADED = "degraded"
RECORDS_FILE = "records.npz"  # the scores of one variant on one split, in a folder <variant>/<split>
RETRAINED = "-retrained"  # after `degraded` or an objective: the task was trained again on such images
CLEAN_RESTORED = "clean-restored-"  # before an objective: its restorer on clean images
LISTS = {"degradations", "objectives", "tasks", "report", "tracking"}  # which rows there are, not what is in them


def objective_of(params: Params, variant: str) -> str | None:
    """The objective whose restorer a variant went through; None where there was none."""
    own = variant.removeprefix(CLEAN_RESTORED).removesuffix(RETRAINED)
    return own if own in params.objectives else None


def row_identity(params: Params, degradation: str | None, variant: str, needs_prior: bool = False) -> str:
    """A digest of the parameters behind one row: a degradation and a variant (`clean`, `degraded`, an objective, ...).

    What a row does not depend on is left out, so that changing it makes no second row of the same.
    """
    unused = LISTS | {"losses", "degrade"}
    objective = objective_of(params, variant)
    if objective is None:
        unused |= {"train_restorer", "restore"}
    if not needs_prior:
        unused |= {"train_prior"}
    rest = params.model_dump(mode="json", exclude=unused)
    if "train_restorer" in rest:
        rest["train_restorer"] = params.train_restorer.used
    parts = [rest, params.degrade.only(degradation), params.losses_of(objective or variant), degradation, variant]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
