"""What makes a row of the comparison the same row: the parameters that it depends on. Not a stage."""

import hashlib
import json

from pipeline.params import Params

CLEAN = "clean"
DEGRADED = "degraded"
LISTS = {"degradations", "objectives", "tasks", "report"}  # which rows there are, not what is in them


def row_identity(params: Params, degradation: str | None, variant: str) -> str:
    """A digest of the parameters behind one row: a degradation and a variant (`clean`, `degraded`, an objective).

    The losses of other objectives are left out, so that changing one makes no new rows for the others.
    """
    settings = params.model_dump(exclude=LISTS | {"losses"})
    parts = json.dumps([settings, params.losses_of(variant), degradation, variant], sort_keys=True)
    return hashlib.sha256(parts.encode()).hexdigest()[:16]
