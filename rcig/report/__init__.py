"""The last stage: tidy rows and published values -> tables, figures and one page."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from rcig import rows as tidy
from rcig.report import figures, page, tables
from rcig.store import atomic_write

_ROWS = ("evaluate/{}.csv", "cross_arch/{}.csv", "attack/{}.csv")
_CURVE, _SUMMARY, _PICTURE = "distill/{}/curve.csv", "distill/{}/summary.json", "distill/{}/images.png"


class Report(NamedTuple):
    """What the other stages left for the listed experiments, in the order of the list."""

    rows: pd.DataFrame
    """tidy rows, see rcig.rows"""
    curves: dict[str, pd.DataFrame]
    summaries: dict[str, dict[str, Any]]
    pictures: dict[str, bytes]


def collect(results: Path, experiments: list[str]) -> Report:
    """Read the results of these experiments; files of any other experiment are leftovers and are not looked at.

    Each file may be missing. Raises ValueError for an experiment that has none of them, and for a file that is not a
    table of results.
    """
    for experiment in experiments:
        _require_any(results, experiment)
    rows = [path for pattern in _ROWS for path in _present(results, pattern, experiments).values()]
    curves, summaries, pictures = (_present(results, pattern, experiments) for pattern in (_CURVE, _SUMMARY, _PICTURE))
    return Report(
        rows=tidy.read(rows),
        curves={experiment: pd.read_csv(path) for experiment, path in curves.items()},
        summaries={experiment: json.loads(path.read_text()) for experiment, path in summaries.items()},
        pictures={experiment: path.read_bytes() for experiment, path in pictures.items()},
    )


def write(report: Report, out: Path) -> None:
    """Write results.csv, tables/*.md and *.tex, figures/curves.png and index.html under `out`."""
    for name, content in render(report).items():
        atomic_write(out / name, content)


def render(report: Report) -> dict[str, bytes | str]:
    """File name -> content. The same report gives the same bytes."""
    written = {
        "accuracy": tables.accuracy(report.rows),
        "cross_architecture": tables.cross_architecture(report.rows),
        "membership_inference": tables.membership_inference(report.rows),
    }
    shown = {**written, "times": tables.times(report.summaries)}
    curves = figures.training_curves(report.curves)
    datasets = {*report.rows["dataset"], *(summary["dataset"] for summary in report.summaries.values())}
    return {
        "results.csv": report.rows.sort_values(list(tidy.COLUMNS)).to_csv(index=False, lineterminator="\n"),
        **{f"tables/{name}.md": tables.to_markdown(table) for name, table in written.items()},
        **{f"tables/{name}.tex": tables.to_latex(table) for name, table in written.items()},
        "figures/curves.png": curves,
        "index.html": page.render(shown, report.pictures, curves if report.curves else None, datasets),
    }


def _require_any(results: Path, experiment: str) -> None:
    paths = [results / pattern.format(experiment) for pattern in (*_ROWS, _CURVE, _SUMMARY, _PICTURE)]
    if not any(path.exists() for path in paths):
        raise ValueError(
            f"nothing to report for experiment {experiment!r}: looked for {', '.join(map(str, paths))};"
            " run `dvc repro` to compute them, or `dvc pull` to fetch them"
        )


def _present(results: Path, pattern: str, experiments: list[str]) -> dict[str, Path]:
    """Experiment -> its file of this kind, where there is one."""
    paths = {experiment: results / pattern.format(experiment) for experiment in experiments}
    return {experiment: path for experiment, path in paths.items() if path.exists()}
