"""Commands that a person runs beside the pipeline. `python -m pipeline.commands` lists them. Nothing imports this package."""
