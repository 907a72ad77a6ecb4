"""report: rows, curves and pictures of every experiment, tables of every study, facts of every dataset -> reports/."""

from pathlib import Path

from rcig import params, report
from stages.common import RESULTS, run


def main() -> None:
    settings = params.load()
    used = {experiment.dataset for experiment in settings.experiments.values()} | settings.full_dataset.keys()
    datasets = [name for name in settings.datasets if name in used]
    found = report.collect(RESULTS, list(settings.experiments), settings.studies, datasets, list(settings.full_dataset))
    report.write(found, Path("reports"))


if __name__ == "__main__":
    run(main)
