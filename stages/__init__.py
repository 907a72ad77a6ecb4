"""One small script per stage of dvc.yaml: read params.yaml, load, call rcig, save."""
