"""The sections of params.yaml, each with its types and ranges."""
