"""Stage plan: what the chosen objectives need, so that nothing is trained in vain, nor again when another
objective is added that needs the same.
"""

import json
from pathlib import Path

from models.losses import needs_prior
from pipeline import runtime
from pipeline.params import load_params


def main() -> None:
    """Command line."""
    options = runtime.arguments("out")
    plan = {"prior": any(needs_prior(objective) for objective in load_params().objectives)}
    with runtime.replacing(Path(options.out)) as scratch:
        scratch.write_text(json.dumps(plan) + "\n")


if __name__ == "__main__":
    runtime.run_stage(main)
