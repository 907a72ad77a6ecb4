"""The last stage: tidy rows and published values -> tables, figures and one page."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from rcig import rows as tidy
from rcig.params import Study
from rcig.predictions import Predictions, by_stratum, hardness, read
from rcig.report import figures, page, tables
from rcig.report.studies import Measured
from rcig.store import atomic_write

_ROWS = ("evaluate/{}.csv", "cross_arch/{}.csv", "attack/{}.csv")
_CURVE, _SUMMARY, _PICTURE = "distill/{}/curve.csv", "distill/{}/summary.json", "distill/{}/images.png"
_STUDY = "study/{}.csv"
_FACTS, _SAMPLES = "data/{}.json", "data/{}.png"
_FULL = "full_dataset/{}.csv"
_PREDICTIONS, _REFERENCE = "evaluate/{}-predictions.npz", "full_dataset/{}-predictions.npz"


class Report(NamedTuple):
    """What the other stages left for what is listed in params.yaml, in its order."""

    rows: pd.DataFrame
    """tidy rows, see rcig.rows"""
    curves: dict[str, pd.DataFrame]
    summaries: dict[str, dict[str, Any]]
    pictures: dict[str, bytes]
    studies: dict[str, Measured]
    facts: dict[str, dict[str, Any]]
    """by dataset, see stages.describe"""
    samples: dict[str, bytes]
    """pictures by dataset"""
    predictions: dict[str, Predictions]
    references: dict[str, Predictions]
    """of networks trained on the full dataset, by dataset"""


def collect(
    results: Path,
    experiments: Sequence[str],
    studies: Mapping[str, Study],
    datasets: Sequence[str] = (),
    full_dataset: Sequence[str] = (),
) -> Report:
    """Read the results of these datasets, experiments and studies; files of any other are leftovers and not looked at.

    Each file of an experiment may be missing. Raises ValueError for one that has none at all, for a dataset or study
    without its file, and for a file that is not a table of results.
    """
    for dataset in datasets:
        _require_any(results, f"dataset {dataset!r}", (_FACTS,), dataset)
    for dataset in full_dataset:
        _require_any(results, f"all of dataset {dataset!r}", (_FULL,), dataset)
    for experiment in experiments:
        _require_any(results, f"experiment {experiment!r}", (*_ROWS, _CURVE, _SUMMARY, _PICTURE), experiment)
    for study in studies:
        _require_any(results, f"study {study!r}", (_STUDY,), study)
    rows = [results / _FULL.format(dataset) for dataset in full_dataset]
    rows += [path for pattern in _ROWS for path in _present(results, pattern, experiments).values()]
    facts, samples = (_present(results, pattern, datasets) for pattern in (_FACTS, _SAMPLES))
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
        facts={dataset: json.loads(path.read_text()) for dataset, path in facts.items()},
        samples={dataset: path.read_bytes() for dataset, path in samples.items()},
        predictions={name: read(path) for name, path in _present(results, _PREDICTIONS, experiments).items()},
        references={name: read(path) for name, path in _present(results, _REFERENCE, full_dataset).items()},
    )


def write(report: Report, out: Path) -> None:
    """Write results.csv, tables/*.md and *.tex, figures/*.png and index.html under `out`."""
    for name, content in render(report).items():
        atomic_write(out / name, content)


def render(report: Report) -> dict[str, bytes | str]:
    """File name -> content. The same report gives the same bytes."""
    pairs = report.rows[["experiment", "dataset"]].drop_duplicates()
    written = {
        "accuracy": tables.accuracy(report.rows, report.summaries),
        "comparisons": tables.comparisons(report.rows, report.summaries),
        "cross_architecture": tables.cross_architecture(report.rows),
        "robustness": tables.robustness(report.rows, report.summaries),
        "membership_inference": tables.membership_inference(report.rows),
        "hardness": tables.hardness(report.predictions, report.references, dict(pairs.to_numpy())),
        "slopes": tables.slopes(report.studies),
        "datasets": tables.datasets(report.facts),
        "times": tables.times(report.summaries),
    }
    curves = {size: figures.training_curves(together) for size, together in _by_size(report).items()}
    measured = {size: figures.gradients(together) for size, together in _by_size(report).items()}
    gradients = {size: drawing for size, drawing in measured.items() if drawing is not None}
    parts = figures.parts(tables.final(report.rows))
    hardness_drawn = {dataset: figures.strata(sets) for dataset, sets in strata(report).items()}
    drawn = {name: figures.study(measured) for name, measured in report.studies.items()}
    data = {name: figures.dataset(facts) for name, facts in report.facts.items()}
    confusions = {name: figures.confusion(found) for name, found in report.predictions.items()}
    attacks = figures.attack_curves(report.rows)
    datasets = {
        *report.rows["dataset"],
        *(summary["dataset"] for summary in report.summaries.values()),
        *(study.base.dataset for study, _ in report.studies.values()),
    }
    return {
        "results.csv": report.rows.sort_values(list(tidy.COLUMNS)).to_csv(index=False, lineterminator="\n"),
        **{f"tables/{name}.md": tables.to_markdown(table) for name, table in written.items()},
        **{f"tables/{name}.tex": tables.to_latex(table) for name, table in written.items()},
        **{f"figures/curves-{size}.png": png for size, png in curves.items()},
        **{f"figures/gradients-{size}.png": png for size, png in gradients.items()},
        **{f"figures/parts-{name}.png": png for name, png in parts.items()},
        **{f"figures/strata-{dataset}.png": png for dataset, png in hardness_drawn.items()},
        **{f"figures/study-{name}.png": png for name, png in drawn.items()},
        **{f"figures/data-{name}.png": png for name, png in data.items()},
        **{f"figures/confusion-{name}.png": png for name, png in confusions.items()},
        **{f"figures/attacks-{name}.png": png for name, png in attacks.items()},
        "index.html": page.render(
            tables=written,
            pictures=report.pictures,
            curves=curves,
            gradients=gradients,
            parts=parts,
            strata=hardness_drawn,
            studies=report.studies,
            drawn=drawn,
            datasets=datasets,
            facts=report.facts,
            samples=report.samples,
            data=data,
            confusions=confusions,
            attacks=attacks,
        ),
    }


def _by_size(report: Report) -> dict[str, dict[str, pd.DataFrame]]:
    """Dataset and size -> the curves of the sets that take the room of so many images per class, by experiment."""
    sizes: dict[str, dict[str, pd.DataFrame]] = {}
    for experiment, curve in report.curves.items():
        of = report.summaries.get(experiment)
        size = experiment if of is None else f"{of['dataset']}-ipc{of['storage_images_per_class']}"
        sizes.setdefault(size, {})[experiment] = curve
    return sizes


def strata(report: Report) -> dict[str, dict[str, dict[int, dict[str, float]]]]:
    """Dataset -> method -> size -> accuracy by hardness, of methods with sets of several sizes.

    Hardness is how many of the networks on the sets of all other methods miss an image: a method has no say in what is
    hard for it, and a stratum has the same images at every size. Sets of one method and size share a mean.
    """
    found: dict[str, dict[str, dict[int, dict[str, float]]]] = {}
    of = {name: summary for name, summary in report.summaries.items() if name in report.predictions}
    for dataset in dict.fromkeys(summary["dataset"] for summary in of.values()):
        sets = [
            (summary["method"], summary["storage_images_per_class"], report.predictions[name])
            for name, summary in of.items()
            if summary["dataset"] == dataset
        ]
        for method in dict.fromkeys(method for method, _, _ in sets):
            others = [predictions for other, _, predictions in sets if other != method]
            own: dict[int, list[Predictions]] = {}
            for _, size, predictions in (one for one in sets if one[0] == method):
                own.setdefault(size, []).append(predictions)
            if others and len(own) > 1:
                score = hardness(others)
                sizes = {size: pd.DataFrame([by_stratum(one, score) for one in some]) for size, some in own.items()}
                found.setdefault(dataset, {})[method] = {size: dict(rows.mean()) for size, rows in sizes.items()}
    return found


def _require_any(results: Path, what: str, patterns: tuple[str, ...], name: str) -> None:
    paths = [results / pattern.format(name) for pattern in patterns]
    if not any(path.exists() for path in paths):
        raise ValueError(
            f"nothing to report for {what}: looked for {', '.join(map(str, paths))};"
            " run `dvc repro` to compute them, or `dvc pull` to fetch them"
        )


def _present(results: Path, pattern: str, names: Sequence[str]) -> dict[str, Path]:
    """Experiment or dataset -> its file of this kind, where there is one."""
    paths = {name: results / pattern.format(name) for name in names}
    return {name: path for name, path in paths.items() if path.exists()}
