"""demo: the whole pipeline on the embedded digits, in the scratch workspace demo/. Not a stage.

Example: python -m stages.demo
"""

import time
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from rcig import plan, planned
from rcig.alone import alone
from rcig.errors import Foreseen
from rcig.processes import stoppable
from stages.commands import copy, dvc
from stages.common import run

DEMO = Path("demo")
DATASET = "mnist_sample"
FIRST = "mnist_sample-ipc1-rcig"  # what there is to look at while one waits is made first


def main() -> None:
    with stoppable("what is made stays, and the same command goes on from there"):
        start, params = time.time(), demo_params(planned.PARAMS)
        with alone(DEMO, "make demo"):
            make_workspace(params)
            if not (DEMO / ".dvc").exists():
                dvc("init", "--quiet", "--no-scm", folder=DEMO, fix="remove demo/ and run `make demo` again")
            print(f"while the set is distilled, {DEMO}/previews/{FIRST}.png shows it", flush=True)
            for targets in ([f"distill@{FIRST}"], []):
                dvc("repro", *targets, folder=DEMO, fix="`make demo` goes on where it stopped")
    print(f"\ndone in {(time.time() - start) / 60:.1f} minutes; open {DEMO}/reports/index.html; results.csv is there")


def demo_params(path: Path) -> dict[str, Any]:
    """Of params.yaml what is of the demo's dataset. Raises Foreseen where the demo is not listed there."""
    params, content = plan.read(path)
    plan.make(params)
    if DATASET not in params.datasets or FIRST not in params.experiments:
        raise Foreseen(f"{path}: the demo needs the dataset {DATASET} and the experiment {FIRST}; list both")
    return settings_of(DATASET, YAML(typ="safe").load(content))


def make_workspace(params: dict[str, Any]) -> None:
    """Copy the pipeline as it stands, with these settings. Raises Foreseen where a file that it reads is not here."""
    entries = (*params["datasets"].values(), *params["experiments"].values())
    given = {entry[key] for entry in entries for key in ("path", "needs") if key in entry}
    read = [path for path in sorted(given) if Path(path).parts[0] not in plan.MADE]
    if missing := [path for path in read if not Path(path).exists()]:
        raise Foreseen(f"{missing[0]}: the demo needs it and it is not here; fetch it: dvc pull {missing[0]}")
    copy(["rcig", "stages", "dvc.yaml", ".dvcignore", *read], DEMO)
    YAML(typ="safe").dump(params, DEMO / "params.yaml")


def settings_of(dataset: str, params: dict[str, Any]) -> dict[str, Any]:
    """Of all sections what is of that dataset."""
    experiments = {name: entry for name, entry in params["experiments"].items() if entry["dataset"] == dataset}
    return {
        "datasets": {dataset: params["datasets"][dataset]},
        "sizes": {name: params["sizes"][name] for name in {entry["size"] for entry in experiments.values()}},
        "full_dataset": {name: entry for name, entry in params["full_dataset"].items() if name == dataset},
        "experiments": experiments,
        **{
            stage: {name: entry for name, entry in params[stage].items() if name in experiments}
            for stage in ("cross_arch", "attack", "score")
        },
        "experts": {name: entry for name, entry in params["experts"].items() if entry["dataset"] == dataset},
        "studies": {},
    }


if __name__ == "__main__":
    run(main)
