"""report: every experiment's rows, curves and pictures, every study's table -> reports/."""

from pathlib import Path

from rcig import params, report
from stages.common import RESULTS, run


def main() -> None:
    settings = params.load()
    report.write(report.collect(RESULTS, list(settings.experiments), settings.studies), Path("reports"))


if __name__ == "__main__":
    run(main)
