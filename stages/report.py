"""report: rows, curves and pictures of every experiment, tables of every study, facts of every dataset -> reports/.

Example: python -m stages.report
"""

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

from rcig import lock, planned, report
from rcig.errors import StoreError
from rcig.run.settings import Study
from stages.common import RESULTS, run


@dataclass(frozen=True)
class Contents:
    """What the stage reads of plan.json: what is in the report, in its order."""

    experiments: tuple[str, ...]
    datasets: tuple[str, ...]
    full_dataset: tuple[str, ...]
    studies: dict[str, Study]


def main() -> None:
    contents = planned.read("report", None, Contents).settings
    if outdated := lock.outdated(planned.load()):
        raise StoreError(
            f"{RESULTS}: {', '.join(outdated)} would be made anew, by other settings or code than what lies there;"
            " `dvc repro` makes them and the report"
        )
    studies = {name: named(study) for name, study in contents.studies.items()}
    found = report.collect(RESULTS, contents.experiments, studies, contents.datasets, contents.full_dataset)
    report.write(found, Path("reports"))


def named(study: Study) -> Study:
    """The study with the settings of its base as attributes: of what type they are is the method's business."""
    return replace(study, base=replace(study.base, settings=SimpleNamespace(**study.base.settings)))


if __name__ == "__main__":
    run(main)
