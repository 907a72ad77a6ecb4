"""demo: the whole pipeline on the embedded digits, in the scratch workspace demo/. Not a stage."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from ruamel.yaml import YAML

from rcig import params
from stages.common import run

DEMO = Path("demo")
DATASET = "mnist_sample"


def main() -> None:
    start = time.time()
    params.load()
    make_workspace()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "1"}
    if not (DEMO / ".dvc").exists():
        subprocess.run(["dvc", "init", "--quiet", "--no-scm"], cwd=DEMO, env=environment, check=True)
    if subprocess.run(["dvc", "repro"], cwd=DEMO, env=environment).returncode:
        raise RuntimeError("the demo did not finish, see above; `make demo` goes on where it stopped")
    print(f"\ndone in {(time.time() - start) / 60:.1f} minutes; open {DEMO}/reports/index.html")
    print(f"every number: {DEMO}/reports/results.csv")


def make_workspace() -> None:
    """Copy the pipeline as it stands, with the experiments of the demo's dataset only, and no studies."""
    DEMO.mkdir(exist_ok=True)
    for part in ("rcig", "stages"):
        shutil.copytree(part, DEMO / part, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("dvc.yaml", ".dvcignore"):
        shutil.copy(part, DEMO / part)
    yaml = YAML(typ="safe")
    settings = yaml.load(Path("params.yaml").read_text())
    settings = {
        "datasets": {DATASET: settings["datasets"][DATASET]},
        "full_dataset": {DATASET: settings["full_dataset"][DATASET]},
        "experiments": {k: v for k, v in settings["experiments"].items() if v["dataset"] == DATASET},
        "studies": {},
    }
    with (DEMO / "params.yaml").open("w") as file:
        yaml.dump(settings, file)


if __name__ == "__main__":
    run(main)
