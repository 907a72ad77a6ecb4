"""What the other stages left in results/, read for the report."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from PIL import Image

from rcig import rows as tidy
from rcig.errors import StoreError
from rcig.predictions import Predictions, read
from rcig.report.drawing import Cell, cells
from rcig.run.settings import Study
from rcig.run.studies import read as read_study
from rcig.store import load_json

_ROWS = ("evaluate/{}.csv", "cross_arch/{}.csv", "attack/{}.csv")
_CURVE, _SUMMARY, _PICTURE = "distill/{}/curve.csv", "distill/{}/summary.json", "distill/{}/images.png"
_CARD = "distill/{}/card.md"
_STUDY = "study/{}.csv"
_FACTS, _SAMPLES = "data/{}.json", "data/{}.png"
_FULL = "full_dataset/{}.csv"
_PREDICTIONS, _REFERENCE = "evaluate/{}-predictions.npz", "full_dataset/{}-predictions.npz"


class Measured(NamedTuple):
    study: Study
    rows: pd.DataFrame
    """see rcig.run.studies"""


class Report(NamedTuple):
    """What the other stages left for what is on in params.yaml, in its order."""

    rows: pd.DataFrame
    """tidy rows, see rcig.rows"""
    curves: dict[str, pd.DataFrame]
    summaries: dict[str, dict[str, Any]]
    pictures: dict[str, list[Cell]]
    """the distilled images of the first seed, each with its class"""
    cards: dict[str, str]
    """see rcig.sets.card"""
    studies: dict[str, Measured]
    facts: dict[str, dict[str, Any]]
    """by dataset, see stages.describe"""
    samples: dict[str, bytes]
    """pictures by dataset"""
    predictions: dict[str, Predictions]
    references: dict[str, Predictions]
    """of networks trained on the full dataset, by dataset"""

    @property
    def datasets(self) -> set[str]:
        """All that rows, sets or studies are of."""
        named = {summary["dataset"] for summary in self.summaries.values()}
        return named | set(self.rows["dataset"]) | {study.base.dataset for study, _ in self.studies.values()}


def collect(
    results: Path,
    experiments: Sequence[str],
    studies: Mapping[str, Study],
    datasets: Sequence[str] = (),
    full_dataset: Sequence[str] = (),
) -> Report:
    """Read the results of these datasets, experiments and studies; files of any other are leftovers and not looked at.

    Each file of an experiment may be missing. Raises StoreError for one that has none at all, for a dataset or study
    without its file, and for a file that is not a table of results.
    """
    for dataset in datasets:
        for part in (_FACTS, _SAMPLES):
            _require_any(results, f"dataset {dataset!r}", (part,), dataset)
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
        curves={experiment: _curve(path) for experiment, path in curves.items()},
        summaries={experiment: load_json(path) for experiment, path in summaries.items()},
        pictures={experiment: _images(path) for experiment, path in pictures.items()},
        cards={name: path.read_text() for name, path in _present(results, _CARD, experiments).items()},
        studies={
            name: Measured(study, read_study(results / _STUDY.format(name), study)) for name, study in studies.items()
        },
        facts={dataset: load_json(path) for dataset, path in facts.items()},
        samples={dataset: _picture(path) for dataset, path in samples.items()},
        predictions={name: read(path) for name, path in _present(results, _PREDICTIONS, experiments).items()},
        references={name: read(path) for name, path in _present(results, _REFERENCE, full_dataset).items()},
    )


def _curve(path: Path) -> pd.DataFrame:
    """A training curve. Raises StoreError where the file holds none."""
    expected = {"seed", "step", "seconds", "loss", "heldout_accuracy"}
    try:
        curve = pd.read_csv(path)
        found = bool(expected <= set(curve) and all(curve[name].dtype.kind in "if" for name in expected))
    except ValueError:
        found = False
    if not found:
        raise StoreError(f"{path}: not a training curve; remove it and run `dvc repro`")
    return curve


def _images(path: Path) -> list[Cell]:
    """The images of a grid. Raises StoreError where the file holds none."""
    try:
        return cells(path.read_bytes())
    except (OSError, ValueError, SyntaxError) as error:
        raise StoreError(f"{path}: not a whole grid of images ({error}); remove it and run `dvc repro`") from None


def _picture(path: Path) -> bytes:
    """A PNG file. Raises StoreError where it is none."""
    content = path.read_bytes()
    try:
        Image.open(io.BytesIO(content)).load()
    except (OSError, ValueError, SyntaxError) as error:
        raise StoreError(f"{path}: not a whole picture ({error}); remove it and run `dvc repro`") from None
    return content


def _require_any(results: Path, what: str, patterns: tuple[str, ...], name: str) -> None:
    paths = [results / pattern.format(name) for pattern in patterns]
    if not any(path.exists() for path in paths):
        raise StoreError(
            f"nothing to report for {what}: looked for {', '.join(map(str, paths))};"
            " run `dvc repro` to compute them, or `dvc pull` to fetch them"
        )


def _present(results: Path, pattern: str, names: Sequence[str]) -> dict[str, Path]:
    """Experiment or dataset -> its file of this kind, where there is one."""
    paths = {name: results / pattern.format(name) for name in names}
    return {name: path for name, path in paths.items() if path.exists()}
