"""Commands that a person runs beside the pipeline. Nothing imports this package.

`python -m pipeline.commands` lists them.
"""
