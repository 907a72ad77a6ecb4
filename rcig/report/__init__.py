"""The last stage: tidy rows and published values -> tables, figures and one page."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from rcig import rows as tidy
from rcig.params import Study
from rcig.report import figures, page, tables
from rcig.report.studies import Measured
from rcig.store import atomic_write

_ROWS = ("evaluate/{}.csv", "cross_arch/{}.csv", "attack/{}.csv")
_CURVE, _SUMMARY, _PICTURE = "distill/{}/curve.csv", "distill/{}/summary.json", "distill/{}/images.png"
_STUDY = "study/{}.csv"


class Report(NamedTuple):
    """What the other stages left for the listed experiments and studies, in the order of the lists."""

    rows: pd.DataFrame
    """tidy rows, see rcig.rows"""
    curves: dict[str, pd.DataFrame]
    summaries: dict[str, dict[str, Any]]
    pictures: dict[str, bytes]
    studies: dict[str, Measured]


def collect(results: Path, experiments: list[str], studies: Mapping[str, Study]) -> Report:
    """Read the results of these experiments and studies; files of any other are leftovers and are not looked at.

    Each file of an experiment may be missing. Raises ValueError for an experiment or study that has none at all, and
    for a file that is not a table of results.
    """
    for experiment in experiments:
        _require_any(results, f"experiment {experiment!r}", (*_ROWS, _CURVE, _SUMMARY, _PICTURE), experiment)
    for study in studies:
        _require_any(results, f"study {study!r}", (_STUDY,), study)
    rows = [path for pattern in _ROWS for path in _present(results, pattern, experiments).values()]
    curves, summaries, pictures = (_present(results, pattern, experiments) for pattern in (_CURVE, _SUMMARY, _PICTURE))
    return Report(
        rows=tidy.read(rows),
        curves={experiment: pd.read_csv(path) for experiment, path in curves.items()},
        summaries={experiment: json.loads(path.read_text()) for experiment, path in summaries.items()},
        pictures={experiment: path.read_bytes() for experiment, path in pictures.items()},
        studies={
            name: Measured(study, tidy.read_study(results / _STUDY.format(name), study))
            for name, study in studies.items()
        },
    )


def write(report: Report, out: Path) -> None:
    """Write results.csv, tables/*.md and *.tex, figures/*.png and index.html under `out`."""
    for name, content in render(report).items():
        atomic_write(out / name, content)


def render(report: Report) -> dict[str, bytes | str]:
    """File name -> content. The same report gives the same bytes."""
    written = {
        "accuracy": tables.accuracy(report.rows),
        "cross_architecture": tables.cross_architecture(report.rows),
        "membership_inference": tables.membership_inference(report.rows),
        "slopes": tables.slopes(report.studies),
    }
    shown = {**written, "times": tables.times(report.summaries)}
    curves = figures.training_curves(report.curves)
    drawn = {name: figures.study(measured) for name, measured in report.studies.items()}
    datasets = {
        *report.rows["dataset"],
        *(summary["dataset"] for summary in report.summaries.values()),
        *(study.base.dataset for study, _ in report.studies.values()),
    }
    return {
        "results.csv": report.rows.sort_values(list(tidy.COLUMNS)).to_csv(index=False, lineterminator="\n"),
        **{f"tables/{name}.md": tables.to_markdown(table) for name, table in written.items()},
        **{f"tables/{name}.tex": tables.to_latex(table) for name, table in written.items()},
        "figures/curves.png": curves,
        **{f"figures/study-{name}.png": png for name, png in drawn.items()},
        "index.html": page.render(
            shown, report.pictures, curves if report.curves else None, report.studies, drawn, datasets
        ),
    }


def _require_any(results: Path, what: str, patterns: tuple[str, ...], name: str) -> None:
    paths = [results / pattern.format(name) for pattern in patterns]
    if not any(path.exists() for path in paths):
        raise ValueError(
            f"nothing to report for {what}: looked for {', '.join(map(str, paths))};"
            " run `dvc repro` to compute them, or `dvc pull` to fetch them"
        )


def _present(results: Path, pattern: str, experiments: list[str]) -> dict[str, Path]:
    """Experiment -> its file of this kind, where there is one."""
    paths = {experiment: results / pattern.format(experiment) for experiment in experiments}
    return {experiment: path for experiment, path in paths.items() if path.exists()}
