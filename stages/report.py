"""report: every experiment's rows, curves and pictures -> reports/."""

from pathlib import Path

from rcig import params, report
from stages.common import RESULTS, run


def main() -> None:
    experiments = params.load().experiments
    report.write(report.collect(RESULTS, list(experiments)), Path("reports"))


if __name__ == "__main__":
    run(main)
