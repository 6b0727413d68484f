"""How datasets are made: imported from a source, degraded by a recipe, or replaced by real photos."""
