"""Restoration for recognition: degradations, restorers, and losses that compare images as a diffusion model sees them.

`restoration_for_recognition.data` holds images, datasets and degradations; `restoration_for_recognition.models` holds
diffusion priors, losses, restorers and recognition tasks.
"""
