"""One small script per stage of dvc.yaml: read plan.json, load, call rcig, save."""
