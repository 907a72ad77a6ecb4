"""The report against naive loops over the same rows, and the page as a browser meets it."""

import base64
import csv
import dataclasses
import io
import itertools
import json
import math
import random
import re
import statistics
import sys
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
from markupsafe import escape
from PIL import Image

from rcig import predictions
from rcig import rows as tidy
from rcig.data.settings import Dataset
from rcig.judging import protocols
from rcig.report import charts, collect, drawing, render, sections, standings, tables, write
from rcig.report.blocks import Chart
from rcig.report.results import Measured, Report
from rcig.report.sections import (
    accuracy,
    architectures,
    data,
    hardness,
    images,
    matrix,
    membership,
    provenance,
    robustness,
    studies,
    times,
    training,
)
from rcig.run import studies as study_tables
from rcig.run.settings import Loop, Run, Study

EXPERIMENTS = {
    "digits-rcig": ("mnist_sample", 10, "rcig"),
    "digits_again": ("mnist_sample", 10, "rcig"),
    "cifar10-ipc10-random": ("cifar10", 10, "random_real"),
}
ARCHITECTURES = {"conv": 32, "resnet18_bn": 16, "alexnet": 24}
TRAINED_ON = ("real_members", "real_subset", "distilled")
ATTACKS = ("threshold", "knn")
RATES = {
    "advantage": "Advantage",
    "tpr_at_1_percent_fpr": "TPR at 1 % FPR",
    "tpr_at_0.1_percent_fpr": "TPR at 0.1 % FPR",
}
CODE = "0123456789012345"
"""what measured: digits alone, which must not be read as a number"""
Rows = list[dict[str, Any]]

STEPS = {"evaluate": (500, 1000), "cross_arch": (100,), "attack": (125, 250)}
"""when networks are measured; tables show the last"""

MNIST_SAMPLE = Dataset(
    resolution=28, channels=1, classes=10, depth=3, whitening="standard", mirror=False, l2_rate=1e-6, held_out=0.1
)
SETTINGS = SimpleNamespace(
    solver="adam",
    body_weight=1.0,
    clip_implicit=False,
    inner_steps=20,
    inverse_steps=20,
    cg_iterations=10,
    backward_images=None,
    images_per_pass=10,
)


def base(images_per_class: int, steps: int) -> Run:
    return Run(
        dataset="mnist_sample",
        images_per_class=images_per_class,
        method="rcig",
        module="implicit",
        size="demo",
        width=8,
        mirror=False,
        needs="inputs/none",
        seeds=(0,),
        chunk=None,
        initialisation="real",
        basis=None,
        boost=None,
        hardness=None,
        loop=Loop(steps, batch_size=64),
        settings=SETTINGS,
    )


def grid(**values: list[Any]) -> Rows:
    """All combinations of these values."""
    return [dict(zip(values, combination, strict=True)) for combination in itertools.product(*values.values())]


def study(figure: Any, run: Run, points: Rows) -> Study:
    varied = tuple(dict.fromkeys(name for point in points for name in point))
    return Study(MNIST_SAMPLE, run, varied, tuple(points), figure, timing_steps=15)


LIGHT: dict[str, list[Any]] = {"body_weight": [0.1]}
HEAVY: dict[str, list[Any]] = {"body_weight": [1.0]}
ADAM: dict[str, list[Any]] = {"solver": ["adam"], "clip_implicit": [True]}
COUNTS = [0, 2, 5, 10, 20]
STUDIES = {
    "solver_steps": study(
        "steps",
        base(1, steps=150),
        grid(**ADAM, **HEAVY, inner_steps=COUNTS, inverse_steps=COUNTS)
        + grid(solver=["cg"], **HEAVY, cg_iterations=[1, 2, 5, 10, 20])
        + grid(solver=["dense"], **HEAVY)
        + grid(**ADAM, **LIGHT, inner_steps=[20], inverse_steps=[20])
        + grid(solver=["cg"], **LIGHT, cg_iterations=[20])
        + grid(solver=["dense"], **LIGHT),
    ),
    "backward_images": study(
        "backward_images",
        base(10, steps=100),
        grid(backward_images=[10, 20, 50, 100], images_per_pass=[10, 100]),
    ),
}

FACTS: dict[str, dict[str, Any]] = {
    "mnist_sample": {"shape": [28, 28, 1], "classes": 10, "spectrum": [], "ridge": None, "whitening": "standard"},
    "cifar10": {
        "shape": [32, 32, 3],
        "classes": 30,
        "spectrum": [[1, 900.0], [50, 1.0], [3072, 0.0]],
        "ridge": 0.1,
        "whitening": "zca",
    },
}


def measurements(experiment: str, stage: str) -> Rows:
    """Random tidy rows of one experiment and stage, in a random order."""
    rng = random.Random(f"{experiment} {stage}")
    dataset, images_per_class, method = EXPERIMENTS[experiment]
    start = {"experiment": experiment, "dataset": dataset, "images_per_class": images_per_class, "method": method}
    start |= {"code": CODE}
    settings = {
        "evaluate": [("loo2023", "conv", 64, "accuracy"), ("loo2023_augmented", "conv", 64, "accuracy")],
        "cross_arch": [
            ("cross_architecture", name, width, metric)
            for name, width in ARCHITECTURES.items()
            for metric in ("accuracy", "learning_rate")
        ],
        "attack": [
            (f"membership_inference/{source}", "conv", 48, metric)
            for source in TRAINED_ON
            for metric in (
                "accuracy",
                *(f"{m}/{a}" for m in ("auc", "auc_low", "auc_high", *RATES) for a in ATTACKS),
            )
        ],
    }
    keys = ("protocol", "architecture", "width", "metric")
    rows = [
        {**start, **dict(zip(keys, setting, strict=True)), "seed": seed, "network": network, "step": step}
        | {"value": 0.003 if setting[-1] == "learning_rate" else rng.random()}
        for setting in settings[stage]
        for seed in (0, 1)
        for network in range(3)
        for step in STEPS[stage]
    ]
    rng.shuffle(rows)
    return rows


def save_rows(path: Path, rows: Rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(tidy.COLUMNS))
        writer.writeheader()
        writer.writerows(rows)


def facts(dataset: str) -> dict[str, Any]:
    """What stages.describe says of a dataset."""
    classes = FACTS[dataset]["classes"]
    return {name: value for name, value in FACTS[dataset].items() if name != "classes"} | {
        "title": f"The title of {dataset}",
        "licence": "a licence",
        "citation": "A. Author: a paper",
        "url": "https://example.org/",
        "test": "validation",
        "class_names": [f"class {i}" for i in range(classes)],
        "counts": {"train": [1000 + i for i in range(classes)], "test": [100] * classes},
        "held_out": 77,
        "duplicates": 3 if dataset == "cifar10" else 0,
        "round_trip": 1,
    }


def full_rows() -> Rows:
    shared = {"experiment": "cifar10-full_dataset", "dataset": "cifar10", "images_per_class": 4500}
    where = {"protocol": "full_dataset_augmented", "architecture": "conv", "width": 32, "seed": 0, "metric": "accuracy"}
    values = (0.8, 0.82)
    return [
        {**shared, "method": "full_dataset", **where, "network": i, "step": 2000, "value": value, "code": CODE}
        for i, value in enumerate(values)
    ]


def curve(accuracy: float, seeds: Iterable[int] = (0, 1)) -> pd.DataFrame:
    """A training curve whose held-out accuracy is constant and measured on every second step."""
    return pd.DataFrame(
        {
            "seed": seed,
            "step": step,
            "seconds": 0.5 * step,
            "loss": 1 / (1 + step),
            "heldout_accuracy": accuracy if step % 2 == 0 else math.nan,
        }
        for seed in seeds
        for step in range(21)
    )


def summary(experiment: str, **changes: Any) -> dict[str, Any]:
    dataset, images_per_class, method = EXPERIMENTS[experiment]
    return {
        "experiment": experiment,
        "dataset": dataset,
        "images_per_class": images_per_class,
        "method": method,
        "stored_floats": 1000 * images_per_class,
        "storage_images_per_class": images_per_class,
        "chunk": None,
        "size": "compact",
        "revision": "0123456789ab",
        "width": 32,
        "seeds": [0, 1],
        "steps": 20,
        "seconds": 50.0,
        "heldout_accuracy": 0.875,
        "machine": "two cores",
        "versions": {"numpy": "2.0", "jax": "0.9"},
        "class_names": ["a", "b"],
    } | changes


def cost(point: dict[str, Any]) -> float:
    """Seconds, or MiB, that are linear in all that they should be linear in."""
    of = {"inner_steps": 0.002, "inverse_steps": 0.003, "cg_iterations": 0.004, "backward_images": 0.5}
    return 0.01 + sum(slope * point.get(name, 0) for name, slope in of.items())


def heldout(point: dict[str, Any], seed: int) -> float:
    return random.Random(f"{sorted(point.items())} {seed}").random()


def study_rows(name: str) -> Rows:
    """Two seeds a point."""
    return [
        point
        | {
            "seed": seed,
            "images": 100,
            "seconds_per_step": cost(point) + 0.001 * (2 * seed - 1),
            "memory_mib": cost(point),
        }
        | {"heldout_accuracy": heldout(point, seed), "seconds_total": 5.0, "machine": "two cores"}
        for point in STUDIES[name].points
        for seed in (0, 1)
    ]


def measured(name: str, tmp_path: Path) -> Measured:
    path = tmp_path / f"{name}.csv"
    study_tables.save(path, name, STUDIES[name], study_rows(name))
    return Measured(STUDIES[name], study_tables.read(path, STUDIES[name]))


def predicted(seeds: int) -> predictions.Predictions:
    """Of 2 networks a seed on 40 images of 3 classes: the networks of one seed miss the first 10 or 20 of them."""
    labels = np.arange(40) % 3
    wrong = (labels + 1) % 3
    said = [[np.where(np.arange(40) < missed, wrong, labels) for missed in (10, 20)]] * seeds
    return predictions.Predictions(np.array(said), labels, ["a", "b", "c"])


def images_of(experiment: str) -> np.ndarray:
    """Two images that no other experiment has."""
    first = 32 * [*EXPERIMENTS].index(experiment)
    return np.arange(first, first + 32, dtype=np.uint8).reshape(2, 4, 4, 1)


def points_of(chart: Chart, x: str, y: str) -> dict[str, list[tuple[float, float]]]:
    """The points of each line of a chart, by its name; those of a single seed apart by name and seed."""
    return {
        " ".join(filter(None, (line["name"], line.get("seed")))): list(zip(line[x], line[y], strict=True))
        for line in chart.spec["data"]["values"]
    }


def make_results(folder: Path) -> Path:
    """Everything that the other stages leave for all experiments and studies."""
    for name, study in STUDIES.items():
        study_tables.save(folder / "study" / f"{name}.csv", name, study, study_rows(name))
    save_rows(folder / "full_dataset" / "cifar10.csv", full_rows())
    predictions.save(folder / "full_dataset" / "cifar10-predictions.npz", *predicted(seeds=1))
    (folder / "data").mkdir()
    for dataset in FACTS:
        (folder / "data" / f"{dataset}.json").write_text(json.dumps(facts(dataset)))
        picture = drawing.image_grid(np.zeros((2, 4, 4, 1), np.uint8), ["a", "b"], 2)
        (folder / "data" / f"{dataset}.png").write_bytes(picture)
    for experiment in EXPERIMENTS:
        for stage in ("evaluate", "cross_arch", "attack"):
            save_rows(folder / stage / f"{experiment}.csv", measurements(experiment, stage))
        predictions.save(folder / "evaluate" / f"{experiment}-predictions.npz", *predicted(seeds=2))
        distilled = folder / "distill" / experiment
        distilled.mkdir(parents=True)
        curve(0.5).to_csv(distilled / "curve.csv", index=False)
        (distilled / "summary.json").write_text(json.dumps(summary(experiment)))
        (distilled / "images.png").write_bytes(drawing.image_grid(images_of(experiment), ["a", "b"], 2))
        (distilled / "card.md").write_text('# A card\n\n```json\n{"size": "compact"}\n```\n')
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return make_results(tmp_path / "results")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return collect(
        make_results(tmp_path_factory.mktemp("results")), list(EXPERIMENTS), STUDIES, list(FACTS), ["cifar10"]
    )


@pytest.fixture(scope="module")
def rendered(report: Report) -> dict[str, bytes | str]:
    return render(report)


@pytest.fixture(scope="module")
def files(rendered: dict[str, bytes | str]) -> dict[str, str]:
    """The text files of the report."""
    return {name: content for name, content in rendered.items() if isinstance(content, str)}


NOTHING = Report(tidy.read([]), *[{} for _ in Report._fields[1:]])


def select(stage: str, **wanted: Any) -> list[float]:
    """The values of one experiment and stage whose other fields are as wanted, by a plain loop."""
    values = []
    wanted = {"step": STEPS[stage][-1]} | wanted
    for row in measurements(wanted["experiment"], stage):
        if all(row[name] == value for name, value in wanted.items()):
            values.append(row["value"])
    assert len(values) == 6
    return values


def over_seeds(stage: str, **wanted: Any) -> str:
    """Mean ± deviation (number, standard error of the mean of two seeds)."""
    text = in_percent(select(stage, **wanted))
    wanted = {"step": STEPS[stage][-1]} | wanted
    rows = [row for row in measurements(wanted["experiment"], stage) if all(row[k] == v for k, v in wanted.items())]
    first, second = (statistics.fmean(row["value"] for row in rows if row["seed"] == seed) for seed in (0, 1))
    return f"{text[:-1]}, SE {100 * abs(first - second) / 2:.1f})"


def in_percent(values: list[float]) -> str:
    hundredfold = [100 * value for value in values]
    return f"{statistics.fmean(hundredfold):.1f} ± {statistics.stdev(hundredfold):.1f} ({len(values)})"


def test_percent_of_one_value_has_no_spread() -> None:
    assert tables.percent(pd.Series([0.125])) == "12.5 (1)"


def test_percent_does_not_hide_a_nan() -> None:
    assert tables.percent(pd.Series([0.5, math.nan])) == "nan ± nan (2)"


def test_accuracy_against_loops(report: Report) -> None:
    table = accuracy.by_protocol(report.rows, report.summaries)
    assert list(table["Experiment"]) == ["cifar10-full_dataset", *EXPERIMENTS]
    for line in table.to_dict("records")[1:]:
        name = line["Experiment"]
        assert (line["Dataset"], line["Images per class"], line["Method"], line["Width"]) == (*EXPERIMENTS[name], 64)
        assert line["No augmentation"] == over_seeds("evaluate", experiment=name, protocol="loo2023")
        assert line["Augmentation"] == over_seeds("evaluate", experiment=name, protocol="loo2023_augmented")
        assert (line["Seeds"], line["Distilled at width"], line["Distilled on"]) == (2, 32, "two cores")
        assert (line["Size"], line["Revision"]) == ("compact", "0123456789ab")
        assert line["Stored numbers"] == "10,000"
    assert table.iloc[0]["Stored numbers"] == "", "no summary says what the full dataset stores"
    for column in ("Size", "Distilled on", "Revision"):
        assert table.iloc[0][column] == "", "nothing is distilled of the full dataset"
    unknown = {name: summary | {"revision": None} for name, summary in report.summaries.items()}
    assert set(accuracy.by_protocol(report.rows, unknown)["Revision"]) == {""}


def test_seeds_are_those_of_each_set(report: Report) -> None:
    rows = report.rows
    fewer = rows[(rows["experiment"] != "digits_again") | (rows["seed"] == 0)]
    table = accuracy.by_protocol(fewer, report.summaries).set_index("Experiment")["Seeds"].to_dict()
    assert table == {"cifar10-full_dataset": 1, **dict.fromkeys(EXPERIMENTS, 2), "digits_again": 1}


def test_published_values_stand_beside_what_they_are_of(report: Report) -> None:
    rows, summaries = report.rows, report.summaries
    as_rcig = {"cifar10-ipc10-random": "cifar10"}
    of_cifar = rows[rows["experiment"].isin(as_rcig)].assign(method="rcig", images_per_class=10)
    beside = accuracy.by_protocol(of_cifar, summaries)
    assert beside["Published"].tolist() == ["69.1 ± 0.4"]
    assert beside["Published, no augmentation"].tolist() == ["69.1 ± 0.4"]
    assert beside["Published, augmentation"].tolist() == ["66.4 ± 1.0"]
    crossed = architectures.by_architecture(of_cifar).set_index("Architecture")["Published"]
    assert (crossed["conv"], crossed["alexnet"], crossed["resnet18_bn"]) == ("69.1 ± 0.4", "60.8 ± 1.8", "")
    chunk = {name: summary | {"chunk": 10000} for name, summary in summaries.items()}
    assert accuracy.by_protocol(of_cifar, chunk)["Published"].tolist() == [""], "no set of the paper's table"
    of_mnist = of_cifar.assign(dataset="mnist", images_per_class=50)
    attacked = membership.by_attack(of_mnist).set_index(["Trained on", "Attack"])["Published AUC"]
    assert attacked["real_members", "knn"] == "0.97 ± 0.00"
    assert attacked["real_subset", "threshold"] == "0.52 ± 0.00"
    assert attacked["distilled", "threshold"] == "0.49 ± 0.00"
    given = {"a": summaries["digits-rcig"] | {"dataset": "mnist", "images_per_class": 1}}
    assert times.costs(given)["Published seconds per step"].tolist() == ["0.16 ± 0.00"]
    assert "Published seconds per step" not in times.costs(summaries)


def test_the_full_dataset_stands_in_the_column_of_its_augmentation(report: Report) -> None:
    line = accuracy.by_protocol(report.rows, report.summaries).iloc[0]
    assert line["Augmentation"] == "81.0 ± 1.4 (2)"
    assert line["No augmentation"] == ""
    assert line["Published"] == "84.8 ± 0.1"


def test_other_protocols_have_a_column_where_they_were_run(report: Report) -> None:
    rows = report.rows[report.rows["protocol"] == "loo2023"].assign(protocol="narrow_sgd", architecture="narrow_in")
    table = accuracy.by_protocol(pd.concat([report.rows, rows], ignore_index=True), report.summaries)
    assert list(table.columns[6:10]) == ["No augmentation", "Augmentation", "Narrow, SGD", "Published"]
    for line in table.to_dict("records")[1:]:
        assert line["Narrow, SGD"] == line["No augmentation"]


def test_sets_of_one_size_are_compared_by_seed(report: Report) -> None:
    table = accuracy.comparisons(report.rows, report.summaries)
    assert len(table) == 2, "digits-rcig and digits_again by two protocols; all other sets are alone in their size"
    for line in table.to_dict("records"):
        protocol = {"No augmentation": "loo2023", "Augmentation": "loo2023_augmented"}[line["Protocol"]]
        means = {
            (name, seed): statistics.fmean(
                row["value"]
                for row in measurements(name, "evaluate")
                if (row["protocol"], row["seed"], row["step"]) == (protocol, seed, STEPS["evaluate"][-1])
            )
            for name in (line["Set"], line["Less"])
            for seed in (0, 1)
        }
        differences = [means[line["Set"], seed] - means[line["Less"], seed] for seed in (0, 1)]
        mean, half = statistics.fmean(differences), 12.7062 * statistics.stdev(differences) / math.sqrt(2)
        assert mean > 0
        assert line["Difference"] == f"{100 * mean:.1f} [{100 * (mean - half):.1f}, {100 * (mean + half):.1f}]"
        assert (line["Seeds"], line["Caution"]) == (2, "2 seeds: a very wide interval")


def with_parts(report: Report) -> Report:
    """The report with digits-rcig boosted, a part of digits_again, and the random set stored as a basis.

    On parts networks are trained for half of the steps.
    """
    rows = report.rows
    boosted = rows["experiment"] == "digits-rcig"
    of_part = rows[rows["experiment"] == "digits_again"].assign(images_per_class=5, method="rcig+part")
    first = rows[boosted].assign(images_per_class=5, method="rcig+boost+part")
    of_part, first = (part.assign(step=part["step"] // 2) for part in (of_part, first))
    rows = rows.assign(method=rows["method"].where(~boosted, "rcig+boost"))
    summaries = dict(report.summaries)
    summaries["cifar10-ipc10-random"] = summaries["cifar10-ipc10-random"] | {"storage_images_per_class": 3}
    return report._replace(rows=pd.concat([rows, of_part, first], ignore_index=True), summaries=summaries)


def test_sets_are_compared_by_what_they_store_and_parts_by_their_size(report: Report) -> None:
    found = with_parts(report)
    twin = found.rows[found.rows["experiment"] == "digits_again"]
    twin = twin[twin["method"] == "rcig"].assign(experiment="plain", dataset="cifar10", images_per_class=3)
    table = accuracy.comparisons(pd.concat([found.rows, twin], ignore_index=True), found.summaries)
    pairs = {(line["Room"], frozenset((line["Set"], line["Less"]))) for line in table.to_dict("records")}
    assert pairs == {
        (10, frozenset(("digits-rcig", "digits_again"))),
        (5, frozenset(("digits-rcig, a part", "digits_again, a part"))),
        (3, frozenset(("plain", "cifar10-ipc10-random"))),
    }
    stored = accuracy.by_protocol(found.rows, found.summaries).set_index(["Experiment", "Method"])["Stored numbers"]
    assert stored["digits_again", "rcig+part"] == "5,000"
    assert stored["digits-rcig", "rcig+boost"] == "10,000"


def test_parts_are_drawn_where_there_are_any(report: Report) -> None:
    assert accuracy.parts(tables.final(report.rows)) == {}
    rows = with_parts(report).rows
    drawn = accuracy.parts(tables.final(rows[rows["protocol"] == "loo2023"]))
    assert list(drawn) == ["mnist_sample-rcig-loo2023-64"]
    (chart,) = drawn.values()
    mean = {name: statistics.fmean(select("evaluate", experiment=name, protocol="loo2023")) for name in EXPERIMENTS}
    assert {name: dict(line) for name, line in points_of(chart, "images", "mean").items()} == {
        name: dict.fromkeys((5, 10), pytest.approx(mean[name], rel=1e-3)) for name in ("digits-rcig", "digits_again")
    }
    for line in chart.spec["data"]["values"]:
        spread = statistics.stdev(select("evaluate", experiment=line["name"], protocol="loo2023"))
        assert [high - low for low, high in zip(line["low"], line["high"], strict=True)] == pytest.approx(
            [2 * spread] * 2, rel=1e-2
        )


def test_gradients_are_drawn_of_methods_that_measure_them() -> None:
    plain = curve(0.5)
    assert training.gradients({"plain": plain}) == {}
    known = plain.assign(gradient_norm=plain["loss"], gradient_variance=plain["loss"] ** 2)
    both = training.gradients({"plain": plain, "known": known})
    # A logarithm has no place for the step 0.
    assert points_of(both["norm"], "step", "gradient_norm") == {
        "known": [(step, pytest.approx(1 / (1 + step), rel=1e-3)) for step in range(1, 21)]
    }
    assert list(points_of(both["variance"], "step", "gradient_variance")) == ["known"]


def test_hardness_is_the_share_of_networks_that_miss_an_image_averaged_over_sets() -> None:
    found = predicted(seeds=2)
    never = found._replace(predicted=found.labels[None, None])
    score = predictions.hardness([found, never])
    np.testing.assert_allclose(score, [0.5] * 10 + [0.25] * 10 + [0.0] * 20)
    strata = predictions.by_stratum(found, score)
    assert strata["none"] == 1.0
    assert strata["up to 25 %"] == 0.5
    assert strata["25 to 50 %"] == 0.0
    assert all(math.isnan(strata[words]) for words in ("50 to 75 %", "more"))


def with_sizes(report: Report, *sets: tuple[str, int, predictions.Predictions]) -> Report:
    """The report of sets of mnist_sample alone: the method of each, its size, and what its networks predict."""
    summary = report.summaries["digits-rcig"]
    names = [f"set {i}" for i in range(len(sets))]
    of = [summary | {"method": method, "storage_images_per_class": size} for method, size, _ in sets]
    return report._replace(
        summaries=dict(zip(names, of, strict=True)),
        predictions=dict(zip(names, [found for _, _, found in sets], strict=True)),
    )


def test_strata_are_drawn_of_methods_with_several_sizes(report: Report) -> None:
    missing, right = predicted(seeds=2), predicted(seeds=2)
    right = right._replace(predicted=right.labels[None, None])
    several = [("rcig", 10, missing), ("rcig", 50, right)]
    assert hardness.strata(with_sizes(report, *several)) == {}, "no other method says what is hard"
    assert hardness.strata(with_sizes(report, several[0], ("frepo", 50, right))) == {}
    found = hardness.strata(with_sizes(report, *several, ("frepo", 10, missing)))["mnist_sample"]
    assert {method: list(sizes) for method, sizes in found.items()} == {"rcig": [10, 50]}
    assert found["rcig"][50]["none"] == 1.0
    spec = hardness.draw_strata(found["rcig"])
    assert {line["name"]: line["accuracy"] for line in spec["data"]["values"]}["none"][-1] == 1


def test_strata_have_the_same_images_at_every_size_and_a_method_no_say_in_its_own(report: Report) -> None:
    missing, right = predicted(seeds=2), predicted(seeds=2)
    right = right._replace(predicted=right.labels[None, None])
    sets = [("rcig", 1, missing), ("rcig", 10, right), ("rcig", 10, missing)]
    found = hardness.strata(with_sizes(report, *sets, ("frepo", 1, right)))["mnist_sample"]["rcig"]
    assert found[1]["none"] == missing.correct.mean() < 1, "frepo finds no image hard"
    assert found[10]["none"] == pytest.approx((1 + missing.correct.mean()) / 2), "sets of one size share a mean"
    assert all(math.isnan(value) for sizes in found.values() for words, value in sizes.items() if words != "none")
    hard = hardness.strata(with_sizes(report, *sets, ("frepo", 1, missing)))["mnist_sample"]["rcig"]
    assert (hard[1]["none"], hard[1]["25 to 50 %"], hard[1]["more"]) == (1.0, 0.5, 0.0)
    assert (hard[10]["none"], hard[10]["25 to 50 %"], hard[10]["more"]) == (1.0, 0.75, 0.5)


def test_what_a_dataset_holds(report: Report, files: dict[str, str]) -> None:
    line = data.contents(report.facts).to_dict("records")[1]
    assert line["Images"] == "32 × 32 × 3"
    assert (line["Train"], line["Held out"], line["Test"]) == (f"{sum(range(1000, 1030)):,}", "77", "3,000")
    assert (line["Test part"], line["Classes"]) == ("validation", 30)
    assert "<dt>Licence</dt><dd>a licence</dd>" in files["index.html"]
    assert "<dt>Cite</dt><dd>A. Author: a paper</dd>" in files["index.html"]


def test_a_protocol_that_was_not_run_is_empty(report: Report) -> None:
    plain = accuracy.by_protocol(report.rows[report.rows["protocol"] == "loo2023"], report.summaries)
    assert list(plain["Augmentation"]) == [""] * len(EXPERIMENTS)
    assert "" not in set(plain["No augmentation"])


def test_cross_architecture_against_loops(report: Report) -> None:
    table = architectures.by_architecture(report.rows)
    keys = table[["Experiment", "Architecture", "Width"]].itertuples(index=False, name=None)
    assert sorted(keys) == sorted((name, *what) for name in EXPERIMENTS for what in ARCHITECTURES.items())
    for line in table.to_dict("records"):
        which = {"experiment": line["Experiment"], "architecture": line["Architecture"], "metric": "accuracy"}
        assert line["Test accuracy"] == over_seeds("cross_arch", **which)
        assert line["Learning rate"] == "0.003"


def test_membership_inference_against_loops(report: Report) -> None:
    table = membership.by_attack(report.rows)
    keys = set(table[["Experiment", "Trained on", "Attack"]].itertuples(index=False, name=None))
    assert keys == {(name, source, attack) for name in EXPERIMENTS for source in TRAINED_ON for attack in ATTACKS}
    assert len(table) == len(keys)
    for line in table.to_dict("records"):
        network = {"experiment": line["Experiment"], "protocol": f"membership_inference/{line['Trained on']}"}
        attack = line["Attack"]
        auc, low, high = (
            statistics.fmean(select("attack", **network, metric=f"{bound}/{attack}"))
            for bound in ("auc", "auc_low", "auc_high")
        )
        assert line["AUC"] == f"{auc:.3f} [{low:.3f}, {high:.3f}] (6)"
        for rate, column in RATES.items():
            assert line[column] == in_percent(select("attack", **network, metric=f"{rate}/{attack}"))
        assert line["Test accuracy"] == in_percent(select("attack", **network, metric="accuracy"))


def test_hard_images_are_those_that_the_full_dataset_misses(report: Report) -> None:
    datasets = {name: dataset for name, (dataset, _, _) in EXPERIMENTS.items()}
    table = hardness.by_misses(report.predictions, report.references, datasets)
    lines = table[["Missed by", "Test images", "Accuracy"]].to_numpy().tolist()
    # Both networks of the set and of the reference miss the first 10 images, one of each the next 10.
    assert lines == [
        ["0 of 2", "20", "100.0 ± 0.0 (4, SE 0.0)"],
        ["1 of 2", "10", "50.0 ± 57.7 (4, SE 0.0)"],
        ["2 of 2", "10", "0.0 ± 0.0 (4, SE 0.0)"],
    ]


def test_robustness_scores_from_rows() -> None:
    shared = {"dataset": "d", "images_per_class": 1, "architecture": "conv", "width": 8, "seed": 0, "network": 0}
    values = {
        ("full", "full_dataset", "full_dataset_augmented"): 0.9,
        ("set", "rcig", "loo2023"): 0.6,
        ("set", "rcig", "loo2023_augmented"): 0.5,
        ("set", "rcig", "loo2023_hard"): 0.4,
        ("random", "random_real", "loo2023"): 0.3,
        ("random", "random_real", "loo2023_augmented"): 0.35,
    }
    rows = pd.DataFrame(
        [
            shared | {"experiment": name, "method": method, "protocol": protocol, "metric": "accuracy"} | measured
            for (name, method, protocol), value in values.items()
            for measured in ({"step": 100, "value": value}, {"step": 50, "value": 0.0})
        ]
    )
    (line,) = robustness.robust_scores(rows, {}).to_dict("records")
    assert (line["Lost with hard labels"], line["Gained over random"]) == ("50.0", "30.0")
    normalised = lambda a: (math.exp(a) - math.exp(-1)) / (math.exp(1) - math.exp(-1))  # noqa: E731
    assert line["Label-robust score"] == f"{normalised(0.5 * 0.3 - 0.5 * 0.5):.3f}"
    assert line["Augmentation-robust score"] == f"{normalised(0.5 * 0.15 + 0.5 * 0.3):.3f}"
    without = rows[rows["protocol"] != "loo2023_augmented"]
    assert robustness.robust_scores(without, {})["Augmentation-robust score"].tolist() == [""]
    assert robustness.robust_scores(rows[rows["method"] != "random_real"], {}).empty


def printed_in_the_paper(table: int, dataset: str, images_per_class: int, method: str) -> str:
    key = (f"loo2023/table{table}", dataset, str(images_per_class), method, "accuracy")
    with Path(tables.__file__).with_name("published.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if (row["source"], row["dataset"], row["images_per_class"], row["method"], row["metric"]) == key:
                return f"{row['value']} ± {row['std']}"
    raise AssertionError(f"{key} is not in published.csv")


def test_published_values_keep_the_printed_digits_and_prefer_table_2() -> None:
    published = standings.published_accuracy()
    in_table_2 = printed_in_the_paper(2, "cifar10", 1, "rcig")
    assert published["cifar10", "1", "rcig"] == in_table_2 != printed_in_the_paper(1, "cifar10", 1, "rcig")
    assert published["mnist", "50", "kip"] == printed_in_the_paper(2, "mnist", 50, "kip")
    assert published["cifar100", "10", "vig"] == printed_in_the_paper(1, "cifar100", 10, "vig")
    assert published["mnist", "1", "random_real"] == printed_in_the_paper(1, "mnist", 1, "random_subset")
    assert published["imagewoof", "10", "mtt"] == printed_in_the_paper(4, "imagewoof", 10, "mtt")
    assert published["imagenet_resized", "2", "rcig"] == "16.6 ± 0.1"


def test_published_values_are_never_guessed() -> None:
    published = standings.published_accuracy()
    assert ("cifar100", "50", "kip") not in published
    assert ("cifar10", "5", "rcig") not in published
    assert "mnist_sample" not in {dataset for dataset, _, _ in published}


def test_published_stands_beside_its_own_set_only(report: Report) -> None:
    beside = accuracy.by_protocol(report.rows, report.summaries).set_index("Experiment")["Published"].to_dict()
    expected = printed_in_the_paper(1, "cifar10", 10, "random_subset")
    full = {"cifar10-full_dataset": "84.8 ± 0.1"}
    assert beside == full | {"digits-rcig": "", "digits_again": "", "cifar10-ipc10-random": expected}


def test_times() -> None:
    trained, drawn = summary("digits-rcig"), summary("cifar10-ipc10-random", steps=0, seconds=0, heldout_accuracy=None)
    first, second = times.costs({"digits-rcig": trained, "random": drawn}).to_dict("records")
    assert (first["Time"], first["Seconds per step and seed"], first["Held-out accuracy"]) == ("50.0 s", "1.25", "87.5")
    assert (first["Seeds"], first["Steps"], first["Versions"]) == (2, 20, "jax 0.9, numpy 2.0")
    assert (second["Time"], second["Seconds per step and seed"], second["Held-out accuracy"]) == ("0.0 s", "", "")


@pytest.mark.parametrize(
    ("seconds", "text"), [(119.9, "119.9 s"), (120, "2.0 min"), (7199, "120.0 min"), (7200, "2.0 h")]
)
def test_duration_changes_unit_at_two_of_the_next(seconds: float, text: str) -> None:
    assert tables.duration(seconds) == text


def test_markdown_reads_back(report: Report) -> None:
    table = membership.by_attack(report.rows).astype(str)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in tables.to_markdown(table).splitlines()]
    header, rule, *body = lines
    assert header == list(table)
    assert all(re.fullmatch("-+", cell) for cell in rule)
    assert body == table.to_numpy().tolist()


def test_latex_escapes_and_uses_booktabs(report: Report) -> None:
    text = tables.to_latex(membership.by_attack(report.rows))
    assert r"digits\_again & mnist\_sample" in text
    assert r"TPR at 1 \% FPR" in text
    assert not re.search(r"(?<!\\)[_%#]", text)
    assert r"$\pm$" in text
    assert text.isascii()
    assert all(rule in text for rule in (r"\toprule", r"\midrule", r"\bottomrule"))


HOSTILE = "=cmd|' /C calc'!A0 <script>x</script> $x$ $ `*a*` [b](c) \\ ../../out\n\n# _d_ &amp; {e}"


def hostile(report: Report) -> Report:
    """The same report of sets whose files say that of their method, their machine and their classes."""
    rows = report.rows.assign(method=report.rows["method"].replace("rcig", HOSTILE))
    summaries = {name: of | {"method": HOSTILE, "machine": HOSTILE} for name, of in report.summaries.items()}
    named = {name: found._replace(class_names=[HOSTILE] * 3) for name, found in report.predictions.items()}
    facts = {name: of | {"title": HOSTILE, "url": HOSTILE} for name, of in report.facts.items()}
    return report._replace(rows=rows, summaries=summaries, predictions=named, facts=facts)


def test_text_of_files_is_shown_as_text(report: Report, tmp_path: Path) -> None:
    files = render(hostile(report))
    assert {name.count("/") for name in files if name.endswith(("png", "svg", "md", "tex"))} == {1}
    text = str(files["index.html"])
    Page(text)
    assert "<script>x" not in text
    assert escape(HOSTILE) in text
    assert "<script>x" not in "".join(str(content) for name, content in files.items() if name.endswith("svg"))
    plain = render(report)
    for name in files:
        if name.endswith((".md", ".tex")):
            said, usual = str(files[name]).splitlines(), str(plain[name]).splitlines()
            mark, others = (r"(?<!\\)\|", "<|`") if name.endswith(".md") else (r"(?<!\\)&", "[$_#]")
            assert [len(re.findall(mark, line)) for line in said] == [len(re.findall(mark, line)) for line in usual]
            assert not re.search(rf"(?<!\\)({others})", "\n".join(said).replace(r"$\pm$", ""))
    (tmp_path / "results.csv").write_text(str(files["results.csv"]))
    methods = tidy.read([tmp_path / "results.csv"])["method"]
    assert set(methods) == set(hostile(report).rows["method"])
    assert "'=cmd" in str(files["results.csv"])
    assert not re.search(r'(^|,)"?[=+@-]', str(files["results.csv"]), re.MULTILINE)


class Page(HTMLParser):
    """Every element with its attributes; fails on a tag that is not closed in order."""

    VOID = ("meta", "link", "img", "br", "hr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def index(report: Report) -> str:
    text = render(report)["index.html"]
    assert isinstance(text, str)
    return text


def test_page_is_well_formed_and_accessible(files: dict[str, str]) -> None:
    parsed = Page(files["index.html"])
    assert len(parsed.all("h1")) == 1
    tables_shown = parsed.all("table")
    assert len(tables_shown) == len(parsed.all("thead"))
    assert all(cell.get("scope") in ("row", "col") for cell in parsed.all("th"))
    for image in parsed.all("img"):
        if "src" in image:  # all but that of the enlarged picture, which is filled in
            assert image["alt"]
            kind, _, encoded = (image["src"] or "").partition(",")
            assert kind == "data:image/webp;base64"
            Image.open(io.BytesIO(base64.b64decode(encoded))).verify()
    assert all(plot["aria-label"] for plot in parsed.all("div") if plot.get("role") == "img")
    names = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(names) == len(set(names))
    assert {attributes["aria-labelledby"] for _, attributes in parsed.elements if "aria-labelledby" in attributes} <= {
        *names
    }
    targets = {(link["href"] or "")[1:] for link in parsed.all("a") if (link["href"] or "").startswith("#")}
    assert targets <= set(names)
    assert {f"set-{name}" for name in EXPERIMENTS} <= targets


def test_page_shows_every_pixel_of_the_sets(report: Report, files: dict[str, str]) -> None:
    sources = (str(image.get("src")).partition(",")[2] for image in Page(files["index.html"]).all("img"))
    shown = [Image.open(io.BytesIO(base64.b64decode(source))).convert("L").tobytes() for source in sources if source]
    times = [{shown.count(image.tobytes()) for image in images_of(experiment)} for experiment in EXPERIMENTS]
    # Once in its own section; and the better one of mnist_sample at the top, as the set of cifar10 is of random images.
    assert sorted(times, key=min) == [{1}, {1}, {2}]


def test_images_of_a_set_under_two_names_are_shown_once(report: Report) -> None:
    (cells, other, *_) = report.pictures.values()
    renamed = [cell._replace(title=cell.title + "'") for cell in cells]
    pictures = {"one": cells, "two": other, "one again": [*cells], "renamed": renamed}
    assert images.first_with_them(pictures) == {"one": "one", "two": "two", "one again": "one", "renamed": "renamed"}
    text = index(NOTHING._replace(pictures=pictures))
    assert 'The images are those of <a href="#set-one">one</a>.' in text
    shown = [image["src"] for image in Page(text).all("img") if "src" in image]
    assert len(shown) == len(cells) + len(other) + len(renamed)


def test_page_loads_nothing_from_elsewhere(files: dict[str, str]) -> None:
    text = files["index.html"]
    parsed = Page(text)
    assert all("src" not in script for script in parsed.all("script"))
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    loads = [
        attributes[name]
        for tag, attributes in parsed.elements
        for name in ("src", "href", "srcset", "data")
        if name in attributes and tag != "a"
    ]
    assert loads
    assert all(address and address.startswith("data:") for address in loads)


def test_page_escapes_names(report: Report) -> None:
    (picture, *_) = report.pictures.values()
    text = index(NOTHING._replace(pictures={"<script>&": picture}))
    assert "&lt;script&gt;&amp;" in text
    assert "<script>&" not in text


def test_page_leaves_out_what_there_is_not(files: dict[str, str]) -> None:
    empty = Page(index(NOTHING))
    assert [heading["id"] for heading in empty.all("h2")] == ["reproduce"]
    everything = Page(files["index.html"])
    assert [heading["id"] for heading in everything.all("h2")] == [
        "images",
        "matrix",
        "accuracy",
        "sets",
        "hardness",
        "training",
        "architectures",
        "membership",
        "studies",
        "data",
        "time",
        "reproduce",
    ]


def test_matrix_has_every_set_in_its_row_and_column(report: Report) -> None:
    (_, block) = matrix.section(report).blocks
    assert block.columns == ["random_real", "rcig"]
    assert list(block.rows) == [("mnist_sample", "10 per class"), ("cifar10", "10 per class")]
    none, (first,) = block.rows["mnist_sample", "10 per class"]
    assert none == [], "no set of random images: the cell is empty"
    assert first.set == next(name for name in EXPERIMENTS if name in ("digits-rcig", "digits_again"))
    assert first.accuracy == in_percent(select("evaluate", experiment=first.set, protocol="loo2023"))[:-4]
    assert (first.best, first.size, first.notes[0]) == (True, "compact", "n 6, 2 seeds, width 64")
    (random,), (only,) = block.rows["cifar10", "10 per class"]
    assert (random.set, random.best) == ("cifar10-ipc10-random", True)
    assert random.published == printed_in_the_paper(1, "cifar10", 10, "random_subset")
    assert (only.set, only.published) == ("", "69.1 ± 0.4"), "nothing of ours: what is published stands alone"


@pytest.mark.parametrize(("chosen", "other"), [("digits-rcig", "digits_again"), ("digits_again", "digits-rcig")])
def test_no_set_of_a_cell_is_chosen_by_its_test_accuracy(report: Report, chosen: str, other: str) -> None:
    rows = report.rows
    # The widest networks decide, however much better narrow ones judge the other set.
    rows = rows.assign(
        width=rows["width"].where(rows["experiment"] != chosen, 128),
        value=rows["value"].where(rows["experiment"] != other, 1.0),
    )
    (_, block) = matrix.section(report._replace(rows=rows)).blocks
    _, (only,) = block.rows["mnist_sample", "10 per class"]
    assert only.set == chosen
    by_another = rows.assign(protocol=rows["protocol"].where(rows["experiment"] != chosen, "narrow_sgd"))
    (_, block) = matrix.section(report._replace(rows=by_another)).blocks
    _, (only,) = block.rows["mnist_sample", "10 per class"]
    assert only.set == other, "sets are compared by one protocol where it was run"


def test_the_best_of_a_row_is_the_best_by_the_protocol_that_sets_are_compared_by(report: Report) -> None:
    other = report.rows["experiment"] == "digits_again"
    rows = report.rows[~other | (report.rows["protocol"] == "loo2023")]
    # By another protocol, however good, a set does not compete.
    moved = rows["experiment"] == "digits_again"
    rows = rows.assign(
        protocol=rows["protocol"].where(~moved, "inner_adam"),
        method=rows["method"].where(~moved, "rat_bptt"),
        value=rows["value"].where(~moved, 1.0),
    )
    (_, block) = matrix.section(report._replace(rows=rows)).blocks
    cells = block.rows["mnist_sample", "10 per class"]
    assert {entry.set: entry.best for cell in cells for entry in cell} == {"digits-rcig": True, "digits_again": False}
    (moved_entry,) = [entry for cell in cells for entry in cell if entry.set == "digits_again"]
    assert "inner adam" in moved_entry.notes


def test_standings_say_all_that_a_number_is_of(report: Report) -> None:
    hard = report.rows[report.rows["protocol"] == "loo2023"].assign(protocol="loo2023_hard", value=0.25)
    found = standings.standings(report._replace(rows=pd.concat([report.rows, hard], ignore_index=True)))
    (one,) = [one for one in found if (one.experiment, one.protocol) == ("digits-rcig", "No augmentation")]
    values = select("evaluate", experiment="digits-rcig", protocol="loo2023")
    assert one.mean == pytest.approx(100 * statistics.fmean(values))
    assert one.deviation == pytest.approx(100 * statistics.stdev(values))
    assert (one.networks, one.seeds, one.width, one.size) == (6, 2, 64, "compact")
    assert (one.hard, one.time, one.published) == ("25.0 ± 0.0", "50.0 s", "")
    assert {one.protocol for one in found} == {"No augmentation", "Augmentation", "Hard labels"}


def test_every_protocol_has_its_words_and_its_column(report: Report) -> None:
    assert set(get_args(protocols.Name)) == tables.PROTOCOLS.keys() | tables.OTHER_PROTOCOLS.keys()
    plain = report.rows[(report.rows["experiment"] == "digits-rcig") & (report.rows["protocol"] == "loo2023")]
    alone = report._replace(rows=plain.assign(protocol="mtt"))
    (one,) = standings.standings(alone)
    assert (one.experiment, one.protocol) == ("digits-rcig", "Protocol mtt")
    (line,) = accuracy.by_protocol(alone.rows, alone.summaries)["Protocol mtt"]
    values = select("evaluate", experiment="digits-rcig", protocol="loo2023")
    assert line.startswith(in_percent(values)[:-1])


def test_the_top_shows_the_best_distilled_set_of_each_dataset(report: Report) -> None:
    found = standings.compared(standings.standings(report))
    better = max(("digits-rcig", "digits_again"), key=lambda name: found[name].mean)
    assert list(images.best(found, set(report.pictures))) == [better], "random images are not distilled"
    other = found[better]._replace(experiment="larger", room=50, mean=99.0)
    assert list(images.best({**found, "larger": other}, {*report.pictures, "larger"})) == [better], "a smaller set"
    elsewhere = found[better]._replace(experiment="by another", protocol="Narrow, SGD", mean=99.0)
    assert list(images.best({**found, "by another": elsewhere}, {*report.pictures, "by another"})) == [better]
    published = found[better]._replace(experiment="of mnist", dataset="mnist", published="94.7 ± 0.5")
    assert list(images.best({**found, "of mnist": published}, {*report.pictures, "of mnist"})) == ["of mnist", better]


def test_of_large_sets_as_many_images_of_every_class_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (200, 32, 32, 3), np.uint8)
    cells = [drawing.Cell(f"class {position // 20}", one) for position, one in enumerate(pixels)]
    assert len(images.that_fit({"a": cells})["a"]) == 200
    monkeypatch.setattr(images, "_ROOM", 1000 * 100 * 4)
    shown = images.that_fit({"a": cells})["a"]
    assert [cell.title for cell in shown] == [f"class {i}" for i in range(10) for _ in range(len(shown) // 10)]
    assert 10 < len(shown) < 200


def test_a_card_says_what_is_known_and_the_settings_in_force(report: Report) -> None:
    said = provenance.facts(summary("digits-rcig", revision=None, heldout_accuracy=None))
    assert (said["Machine"], said["Time of all seeds"], said["Steps of each seed"]) == ("two cores", "50.0 s", "20")
    assert not {"Revision", "Held-out accuracy", "Code and data"} & set(said)
    assert provenance.in_force(report.cards["digits-rcig"]) == '{"size": "compact"}'
    assert provenance.in_force("") == ""


def test_page_tells_the_sample_from_mnist(results: Path) -> None:
    note = "benchmark called MNIST"
    assert note in index(collect(results, ["digits-rcig"], {}))
    assert note not in index(collect(results, ["cifar10-ipc10-random"], {}))


def test_the_same_results_give_the_same_bytes(results: Path, tmp_path: Path, rendered: dict[str, bytes | str]) -> None:
    write(collect(results, list(EXPERIMENTS), STUDIES, list(FACTS), ["cifar10"]), tmp_path / "out")
    written = {path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*") if path.is_file()}
    names = ("matrix", "accuracy", "comparisons", "cross_architecture", "robustness", "hardness")
    names += ("membership_inference", "slopes", "datasets", "times")
    figures = {f"curves-{name}-ipc10-{what}" for name in FACTS for what in ("accuracy", "seconds", "loss")}
    figures |= {f"study-backward_images-{what}" for what in ("memory_mib", "seconds_per_step", "heldout_accuracy")}
    figures |= {f"study-solver_steps-{what}" for what in ("solvers", "seconds_per_step", "heldout_accuracy")}
    figures |= {f"data-{name}-classes" for name in FACTS} | {"data-cifar10-spectrum"}
    figures |= {f"attacks-{name}-{what}" for name in EXPERIMENTS for what in ("accuracy", *ATTACKS)}
    figures |= {f"confusion-{name}" for name in EXPERIMENTS}
    assert {str(file) for file in written} == {
        "results.csv",
        "index.html",
        "vega.js",
        *(f"figures/{name}.{kind}" for name in figures for kind in ("svg", "png")),
        *(f"tables/{name}.{kind}" for name in names for kind in ("md", "tex")),
    }
    assert {str(file) for file in written} == rendered.keys()
    for name, content in rendered.items():
        assert (tmp_path / "out" / name).read_bytes() == (content.encode() if isinstance(content, str) else content)


SECTION = """
from rcig.report import charts
from rcig.report.blocks import Chart, Paragraph, Row, Section, Table
from rcig.report.results import Report
import pandas as pd

ORDER = 45


def section(report: Report) -> Section:
    table = pd.DataFrame({"Sets": [len(report.pictures)]})
    line = pd.DataFrame({"name": "a", "x": [1, 2], "y": [3, 4]})
    drawn = Chart("One", "of them", charts.lines(line, charts.number("x", "x"), charts.number("y", "y"), ["a"]), "one")
    blocks = [Paragraph("1 < 2"), Table(table, "How many."), Row([drawn])]
    sets = {name: [Paragraph("of this one")] for name in report.pictures}
    return Section("further", "A further one", blocks, {"further": table}, sets)
"""


def test_a_further_section_is_one_further_file(report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "further.py").write_text(SECTION)
    monkeypatch.setattr(sections, "__path__", [*sections.__path__, str(tmp_path)])
    few = NOTHING._replace(pictures=report.pictures)
    try:
        written = render(few)
    finally:
        sys.modules.pop("rcig.report.sections.further", None)
    text = str(written["index.html"])
    assert [heading["id"] for heading in Page(text).all("h2")] == ["sets", "further", "reproduce"]
    assert all(shown in text for shown in ("A further one", "<p>1 &lt; 2</p>", "How many.", 'aria-label="of them"'))
    assert text.count("<p>of this one</p>") == len(EXPERIMENTS)
    assert written["tables/further.md"] == "| Sets |\n| ---- |\n| 3    |\n"
    assert str(written["figures/one.svg"]).startswith("<svg")
    monkeypatch.undo()
    assert set(written) - set(render(few)) == {
        *("tables/further.md", "tables/further.tex", "figures/one.png", "figures/one.svg")
    }


def test_pngs_carry_no_time_and_no_software() -> None:
    grid = drawing.image_grid(np.zeros((1, 2, 2, 3), np.uint8), ["a"], 1)
    (chart, *_) = training.training_curves({"a": curve(0.5)}).values()
    for png in (grid, charts.png(charts.svg(chart.spec))):
        assert set(Image.open(io.BytesIO(png)).info) <= {"grid", "transparency"}


def test_results_csv_has_all_rows_sorted(files: dict[str, str]) -> None:
    text = files["results.csv"]
    rows = [tuple(row.values()) for row in csv.DictReader(io.StringIO(text))]
    measured = [
        row
        for name in EXPERIMENTS
        for stage in ("evaluate", "cross_arch", "attack")
        for row in measurements(name, stage)
    ]
    measured += full_rows()
    columns = list(tidy.COLUMNS)
    expected = sorted(tuple(row[column] for column in columns) for row in measured)
    assert text.splitlines()[0] == ",".join(columns)
    assert rows == [tuple(map(str, row)) for row in expected]


def test_an_experiment_without_results_is_an_error(results: Path) -> None:
    with pytest.raises(ValueError, match=r"'absent'.*evaluate/absent\.csv.*`dvc repro`") as caught:
        collect(results, ["digits-rcig", "absent"], {})
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"dataset 'absent': looked for .*data/absent\.json; run `dvc repro`"):
        collect(results, [], {}, ["absent"])
    with pytest.raises(ValueError, match=r"all of dataset 'absent': looked for .*full_dataset/absent\.csv"):
        collect(results, [], {}, [], ["absent"])


def test_a_study_without_results_is_an_error(results: Path) -> None:
    (results / "study" / "backward_images.csv").unlink()
    with pytest.raises(
        ValueError, match=r"nothing to report for study 'backward_images': looked for .*study/backward_images\.csv;"
    ):
        collect(results, [], STUDIES)
    assert list(collect(results, [], {"solver_steps": STUDIES["solver_steps"]}).studies) == ["solver_steps"]


def test_a_study_of_other_settings_is_an_error(results: Path) -> None:
    path = results / "study" / "backward_images.csv"
    path.write_text(path.read_text().replace("images_per_pass", "inner_steps"))
    with pytest.raises(
        ValueError, match=r"backward_images\.csv: expected the columns study, .*got .*inner_steps.*`dvc repro`"
    ):
        collect(results, [], STUDIES)


def test_any_file_will_do(results: Path) -> None:
    (results / "distill/lone").mkdir()
    (results / "distill/lone/summary.json").write_text(json.dumps(summary("digits-rcig")))
    found = collect(results, ["lone"], {})
    assert (list(found.summaries), found.curves, found.pictures, len(found.rows)) == (["lone"], {}, {}, 0)
    assert Page(index(found)).all("table")


def test_experiments_that_are_not_listed_are_not_reported(results: Path) -> None:
    for path in (results / "distill/digits_again/summary.json", results / "attack/digits_again.csv"):
        path.write_text("damaged")
    written = render(collect(results, ["digits-rcig"], {}))
    assert not [name for name, content in written.items() if "digits_again" in str(content)]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "No columns"),
        ("a,b\n1,2\n", "expected the columns experiment, .*, got a, b"),
        (",".join(tidy.COLUMNS) + "\ne,d,1,m,p,a,,0,0,accuracy,0.5\n", "Integer column has NA"),
    ],
)
def test_a_file_that_is_not_of_tidy_rows_is_an_error(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"rows\.csv: .*{complaint}.*`dvc repro`"):
        tidy.read([path])


def decode(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(28, 28), (5, 9), (200, 150)])
def test_image_grid_holds_every_pixel_where_it_belongs(channels: int, shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, *shape, channels), np.uint8)
    grid = decode(drawing.image_grid(pixels, [""] * 5, columns=3))
    # Without titles, only the images are opaque.
    opaque = grid[..., 3] == 255
    rows, columns = (runs(opaque.any(axis=axis)) for axis in (1, 0))
    assert (len(rows), len(columns)) == (2, 3)
    for position, image in enumerate(pixels):
        cell = grid[rows[position // 3], columns[position % 3], :3]
        scale = cell.shape[0] // shape[0]
        assert cell.shape == (scale * shape[0], scale * shape[1], 3)
        for y in range(cell.shape[0]):
            assert (cell[y] == np.repeat(image[y // scale], scale, axis=0)).all()
    assert not opaque[rows[1], columns[2]].any()


def runs(flags: np.ndarray) -> list[slice]:
    """The stretches of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    return [slice(start, stop) for start, stop in edges.reshape(-1, 2)]


def test_image_grid_enlarges_small_images_only() -> None:
    small, large = (drawing.image_grid(np.zeros((1, side, side, 1), np.uint8), [""], 1) for side in (28, 200))
    assert decode(small).shape[1] == 4 * 28
    assert decode(large).shape[1] == 200


def test_image_grid_writes_titles_above_their_images() -> None:
    titles = ["", "ship", "", "a name that is much too long for its image"]
    grid = decode(drawing.image_grid(np.zeros((4, 32, 32, 3), np.uint8), titles, columns=2))
    opaque_black = (grid == (0, 0, 0, 255)).all(axis=-1)
    rows, columns = (runs(opaque_black.any(axis=axis)) for axis in (1, 0))
    written = (grid[..., 3] > 0) & ~opaque_black
    above_first, above_second = slice(0, rows[0].start), slice(rows[0].stop, rows[1].start)
    assert written[above_first, columns[1]].any()
    assert written[above_second, columns[1]].any()
    written[above_first, columns[1]] = written[above_second, columns[1]] = False
    assert not written.any()


@pytest.mark.parametrize(
    ("pixels", "titles"),
    [
        (np.zeros((1, 2, 2, 1), np.float32), ["a"]),
        (np.zeros((1, 2, 2, 4), np.uint8), ["a"]),
        (np.zeros((1, 2, 2), np.uint8), ["a"]),
        (np.zeros((0, 2, 2, 1), np.uint8), []),
        (np.zeros((2, 2, 2, 1), np.uint8), ["a"]),
    ],
)
def test_image_grid_refuses_what_it_cannot_show(pixels: np.ndarray, titles: list[str]) -> None:
    with pytest.raises(ValueError, match="expected"):
        drawing.image_grid(pixels, titles, 1)


@pytest.mark.parametrize("shape", [(1, 5, 9, 3), (7, 28, 28, 1), (3, 200, 150, 3)])
def test_cells_are_the_images_of_a_grid(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    titles = [f"class {i}" for i in range(len(pixels))]
    found = drawing.cells(drawing.image_grid(pixels, titles, columns=3))
    assert [cell.title for cell in found] == titles
    np.testing.assert_array_equal([cell.pixels for cell in found], pixels)


def test_a_picture_that_does_not_say_what_is_in_it_is_no_grid(results: Path) -> None:
    path = results / "distill/digits-rcig/images.png"
    Image.new("L", (4, 4)).save(path)
    with pytest.raises(ValueError, match=r"images\.png: not a whole grid of images .*`dvc repro`"):
        collect(results, list(EXPERIMENTS), {})


def test_training_curves_show_each_experiment_in_each_panel() -> None:
    drawn = training.training_curves({"low": curve(0.2), "high": curve(0.8)})
    for name, x in (("accuracy", "step"), ("seconds", "seconds")):
        found = points_of(drawn[name], x, "heldout_accuracy")
        at = [step if x == "step" else 0.5 * step for step in range(0, 21, 2)]
        assert found == {"low": [(place, 0.2) for place in at], "high": [(place, 0.8) for place in at]}
    losses = points_of(drawn["loss"], "step", "loss")
    assert losses["low"] == losses["high"] == [(step, pytest.approx(1 / (1 + step), rel=1e-3)) for step in range(21)]


def test_a_sets_own_curves_have_a_line_for_each_seed() -> None:
    (chart, *_) = training.training_curves({"a": curve(0.5)}, seeds=True).values()
    assert list(points_of(chart, "step", "heldout_accuracy")) == ["a", "a 0", "a 1"]
    (chart, *_) = training.training_curves({"a": curve(0.5, seeds=[0])}, seeds=True).values()
    assert list(points_of(chart, "step", "heldout_accuracy")) == ["a"]


def test_a_set_that_is_not_trained_has_no_loss() -> None:
    start = curve(0.5)[lambda rows: rows["step"] == 0].assign(loss=math.nan)
    assert list(training.training_curves({"random": start})) == ["accuracy", "seconds"]


def test_long_lines_are_thinned_and_keep_their_end() -> None:
    data = pd.DataFrame({"name": "a", "x": np.arange(10_000), "y": np.arange(10_000)})
    line = points_of(
        Chart("", "", charts.lines(data, charts.number("x", "x"), charts.number("y", "y"), ["a"])), "x", "y"
    )
    assert 100 < len(line["a"]) <= 400
    assert line["a"][-1] == (9999, 9999)


def test_confusion_shows_the_shares_of_each_class() -> None:
    text = hardness.confusion(predicted(seeds=1))["data"]["values"]
    shares = {(row["true"], row["said"]): float(row["share"]) for row in csv.DictReader(io.StringIO(text))}
    # The two networks miss 10 and 20 of 40 images for the class that follows.
    assert set(shares) == {("a", "a"), ("b", "b"), ("c", "c"), ("a", "b"), ("b", "c"), ("c", "a")}
    assert shares["a", "a"] + shares["a", "b"] == pytest.approx(1, abs=2e-3)
    assert shares["a", "b"] == pytest.approx((4 + 7) / 28, abs=1e-3)


def test_of_many_classes_the_largest_shares_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardness, "_CELLS", 4)
    text = hardness.confusion(predicted(seeds=1))["data"]["values"]
    shown = [(row["true"], row["said"]) for row in csv.DictReader(io.StringIO(text))]
    assert len(shown) == 4
    assert {("a", "a"), ("b", "b"), ("c", "c")} < set(shown), "at least six of ten are right in every class"


def expected_lines(name: str, x: str, y: str, **wanted: Any) -> list[tuple[float, float]]:
    """(x, y) of the points of a study with these settings, means over seeds, by plain loops."""
    points = [point for point in STUDIES[name].points if all(point.get(k) == v for k, v in wanted.items())]
    assert points
    values = {
        "heldout_accuracy": lambda point: (heldout(point, 0) + heldout(point, 1)) / 2,
        "seconds_per_step": cost,
        "memory_mib": cost,
    }
    return sorted(tuple(values[k](p) if k in values else float(p[k]) for k in (x, y)) for p in points)


def test_steps_show_every_point(tmp_path: Path) -> None:
    drawn = studies.steps(measured("solver_steps", tmp_path))
    for y in ("seconds_per_step", "heldout_accuracy"):
        found = points_of(drawn[y], "inverse_steps", y)
        for inner in COUNTS:
            wanted = expected_lines(
                "solver_steps", "inverse_steps", y, solver="adam", inner_steps=inner, body_weight=1.0
            )
            np.testing.assert_allclose(found.pop(f"inner_steps {inner}"), wanted, rtol=1e-3)
        wanted = expected_lines("solver_steps", "inverse_steps", y, solver="adam", body_weight=0.1)
        assert list(found) == ["inner_steps 20, body_weight 0.1"]
        np.testing.assert_allclose(found.popitem()[1], wanted, rtol=1e-3)
    rows = list(csv.DictReader(io.StringIO(drawn["solvers"].spec["data"]["values"])))
    assert len(rows) == len(STUDIES["solver_steps"].points)
    for solver in ("adam", "cg", "dense"):
        for weight, name in ((1.0, solver), (0.1, f"{solver}, body_weight 0.1")):
            where = {"solver": solver, "body_weight": weight}
            wanted = expected_lines("solver_steps", "seconds_per_step", "heldout_accuracy", **where)
            shown = [(float(r["seconds_per_step"]), float(r["heldout_accuracy"])) for r in rows if r["name"] == name]
            np.testing.assert_allclose(sorted(shown), wanted, rtol=1e-3)
    assert "cg_iterations 5" in {row["iterations"] for row in rows}
    legend = charts.svg(drawn["solvers"].spec).partition("role-legend")[2]
    dots = re.findall(r'd="M[^"]*A[^"]*"', legend)
    assert len(dots) == len({row["name"] for row in rows}), "as strokes the symbols of filled dots would not show"


def test_backward_images_show_every_point(tmp_path: Path) -> None:
    drawn = studies.backward_images(measured("backward_images", tmp_path))
    assert set(drawn) == {"memory_mib", "seconds_per_step", "heldout_accuracy"}
    for y, chart in drawn.items():
        found = points_of(chart, "backward_images", y)
        assert list(found) == ["images_per_pass 10", "images_per_pass 100"]
        for number in (10, 100):
            wanted = expected_lines("backward_images", "backward_images", y, images_per_pass=number)
            np.testing.assert_allclose(found[f"images_per_pass {number}"], wanted, rtol=1e-3)


def read_back(study: Study, tmp_path: Path) -> Measured:
    """What is read of a study whose points are all measured, with some values."""
    rest = {name: value for name, value in study_rows("backward_images")[0].items() if name in study_tables.MEASURED}
    study_tables.save(tmp_path / "s.csv", "s", study, [point | rest for point in study.points])
    return Measured(study, study_tables.read(tmp_path / "s.csv", study))


def test_what_a_point_does_not_say_is_as_in_the_base(tmp_path: Path) -> None:
    points = grid(backward_images=[10, None]) + grid(cg_iterations=[7])
    found = read_back(study("backward_images", base(10, steps=100), points), tmp_path)
    assert list(found.rows["backward_images"]) == [10, 100, 100]
    assert list(found.rows["cg_iterations"]) == [10, 10, 7]
    lines = {label: list(line["backward_images"]) for label, line in studies.lines(found, "backward_images").items()}
    assert lines == {"cg_iterations 10": [10, 100], "cg_iterations 7": [100]}
    alone = Measured(study("backward_images", base(10, steps=100), points[:2]), found.rows[:2])
    assert list(studies.lines(alone, "backward_images")) == [""]


def test_all_images_are_all_where_the_base_has_fewer(tmp_path: Path) -> None:
    few = dataclasses.replace(base(10, steps=100), settings=SimpleNamespace(**vars(SETTINGS) | {"backward_images": 20}))
    points = grid(backward_images=[10, None]) + grid(cg_iterations=[7])
    assert list(read_back(study("backward_images", few, points), tmp_path).rows["backward_images"]) == [10, 100, 20]


def test_slopes_of_linear_costs_are_found(tmp_path: Path) -> None:
    table = studies.slopes({name: measured(name, tmp_path) for name in STUDIES})
    assert set(table["R²"]) == {"1.000"}
    assert table.drop(columns="R²").to_numpy().tolist() == [
        ["solver_steps", "solver adam, body_weight 1.0 (25)", "inner_steps", "2 ms per step"],
        ["solver_steps", "solver adam, body_weight 1.0 (25)", "inverse_steps", "3 ms per step"],
        ["solver_steps", "solver cg, body_weight 1.0 (5)", "cg_iterations", "4 ms per step"],
        ["backward_images", "images_per_pass 10 (4)", "backward_images", "0.5 MiB"],
        ["backward_images", "images_per_pass 100 (4)", "backward_images", "0.5 MiB"],
    ]


def test_the_page_says_what_a_study_is_about(files: dict[str, str]) -> None:
    text = " ".join(files["index.html"].split())
    assert (
        "Varied: backward_images, images_per_pass. rcig on mnist_sample, 10 images per class, width 8, batches of 64"
        in text
    )
    assert "1 image per class, width 8, batches of 64 real images, 150 steps, 1 seed; on two cores." in text


def test_loss_is_smoothed_by_seed() -> None:
    rng = random.Random(0)
    raw = [(seed, step, rng.random()) for seed in (0, 1) for step in range(200)]
    smooth = training.smoothed(pd.DataFrame(raw, columns=["seed", "step", "loss"]))
    for (seed, step, _), value in zip(raw, smooth["loss"], strict=True):
        near = [loss for other, at, loss in raw if other == seed and abs(at - step) <= 2]
        assert value == pytest.approx(statistics.median(near))
