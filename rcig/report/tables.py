"""Tidy rows -> the tables a reader sees: frames of text, and their Markdown and LaTeX.

Rows hold fractions. Tables show accuracies and true positive rates in percent, AUCs as fractions.
"""

from collections.abc import Mapping
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rcig.predictions import Predictions, by_hardness
from rcig.report.studies import Measured
from rcig.rows import SUBSET
from rcig.statistics import augmentation_robust_score, caution, label_robust_score, paired, standard_error

IDENTITY = ["experiment", "dataset", "images_per_class", "method"]
"""What names a set. The experiment is part of it: two experiments may share all the rest and must not be pooled."""

_STEPS = {"adam": ["inner_steps", "inverse_steps"], "cg": ["cg_iterations"]}
"""solver -> what its time should be linear in"""
_PROTOCOLS = {"loo2023": "No augmentation", "loo2023_augmented": "Augmentation"}
_OTHER_PROTOCOLS = {
    "loo2023_hard": "Hard labels",
    "reference": "Reference code",
    "inner_adam": "Inner Adam",
    "narrow_adam": "Narrow, Adam",
    "narrow_sgd": "Narrow, SGD",
}
"""these have a column where they were run"""
_FULL = {"full_dataset": "loo2023", "full_dataset_augmented": "loo2023_augmented"}
"""protocols of the full dataset -> the column that they stand in"""
_TABLE_8 = {
    "Published, no augmentation": "accuracy/no_augmentation",
    "Published, augmentation": "accuracy/augmentation",
}
_TABLE_3 = {"conv": "conv_nn", "resnet18_stem_bn": "resnet_bn", "vgg11_narrow": "vgg_bn", "alexnet": "alexnet"}
"""architectures that are those of the paper's public code -> their names in its table 3"""
_TABLES_5_6 = {"mnist": "loo2023/table5", "fashion_mnist": "loo2023/table6"}
_TRAINED_ON = {"real_members": "real", "real_subset": "random_real"}
_ATTACKS = {"logistic_regression": "lr", "random_forest": "rf"}
_ATTACK_PROTOCOL = "membership_inference/"
_HEADERS = {
    "experiment": "Experiment",
    "dataset": "Dataset",
    "images_per_class": "Images per class",
    "method": "Method",
    "architecture": "Architecture",
    "width": "Width",
    "learning_rate": "Learning rate",
    "trained_on": "Trained on",
    "accuracy": "Test accuracy",
    "attack": "Attack",
    "auc": "AUC",
    "advantage": "Advantage",
    "tpr_at_1_percent_fpr": "TPR at 1 % FPR",
    "tpr_at_0.1_percent_fpr": "TPR at 0.1 % FPR",
}
_RATES = ["advantage", "tpr_at_1_percent_fpr", "tpr_at_0.1_percent_fpr"]


@cache
def published() -> dict[tuple[str, ...], str]:
    """(source, dataset, images per class or "full", method, metric) -> "69.1 ± 0.4", as Loo et al. (2023) print it.

    Methods have the names that they have here. Where the paper has several values the first stands, which for rcig in
    table 3 is that of sets distilled without normalisation.
    """
    printed = pd.read_csv(Path(__file__).with_name("published.csv"), dtype=str)
    printed["method"] = printed["method"].replace({"random_subset": "random_real"})
    printed["dataset"] = printed["dataset"].str.removesuffix("/64x64")
    fields = ["source", "dataset", "images_per_class", "method", "metric"]
    lines = printed.drop_duplicates(fields)[[*fields, "value", "std"]].itertuples(index=False, name=None)
    return {tuple(key): value if pd.isna(std) else f"{value} ± {std}" for *key, value, std in lines}


def published_accuracy() -> dict[tuple[str, str, str], str]:
    """(dataset, images per class or "full", method) -> accuracy in percent.

    Table 2 goes before Table 1, which alone has random_real, vig, cig and rig; Table 4 has the sets of larger images.
    """
    values = published()
    return {
        (dataset, count, method): text
        for wanted in ("loo2023/table1", "loo2023/table4", "loo2023/table2")
        for (source, dataset, count, method, metric), text in values.items()
        if (source, metric) == (wanted, "accuracy")
    }


def percent(fractions: pd.Series) -> str:
    """Fractions -> "94.7 ± 0.5 (15)": mean, sample standard deviation and number, the first two in percent.

    A single value has no spread: "94.7 (1)". A NaN among the values shows as nan; it is never left out.
    """
    values = 100 * fractions.to_numpy()
    spread = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
    return f"{values.mean():.1f}{spread} ({len(values)})"


def networks(rows: pd.DataFrame) -> str:
    """Rows -> "94.7 ± 0.5 (15, SE 0.3)": as `percent`, and the standard error over seeds where there are several."""
    error = 100 * standard_error(rows)
    text = percent(rows["value"])
    return text if np.isnan(error) else f"{text[:-1]}, SE {error:.1f})"


def final(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of fully trained networks."""
    # Those of a part of a set, which has fewer images, may be trained for fewer steps.
    keys = ["experiment", "images_per_class", "protocol", "architecture", "width"]
    last = rows.groupby(keys)["step"].transform("max")
    return rows[rows["step"] == last]


def interval(auc: pd.Series, low: pd.Series, high: pd.Series) -> str:
    """AUCs and the bounds of their intervals, one per network -> "0.512 [0.480, 0.544] (15)", means and number."""
    center, bottom, top = (series.to_numpy().mean() for series in (auc, low, high))
    return f"{center:.3f} [{bottom:.3f}, {top:.3f}] ({len(auc)})"


def accuracy(rows: pd.DataFrame, summaries: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Test accuracy of each set by protocol, the published one where the paper prints it, and what the set was made on.

    `summaries` are the summary.json by experiment.
    """
    rows = final(rows).assign(protocol=rows["protocol"].replace(_FULL))
    run = {name: header for name, header in _OTHER_PROTOCOLS.items() if name in set(rows["protocol"])}
    shown = _PROTOCOLS | run
    chosen = rows[rows["protocol"].isin(shown.keys()) & (rows["metric"] == "accuracy")]
    keys = [*IDENTITY, "width"]
    table = _spread(chosen, keys, "protocol", list(shown)).rename(columns=shown)
    seeds = chosen.groupby("experiment")["seed"].nunique()
    table.insert(len(keys), "Seeds", [seeds[name] for name in table["experiment"]])
    best = published_accuracy()
    # What is distilled from a chunk of the training images is no set of the paper's tables.
    chunks = {name for name, summary in summaries.items() if summary["chunk"] != "all"}
    named = table["dataset"].where(~table["experiment"].isin(chunks), "")
    sets = list(zip(named, table["images_per_class"], table["method"], strict=True))
    table["Published"] = [
        best.get((dataset, "full" if method == "full_dataset" else str(count), method), "")
        for dataset, count, method in sets
    ]
    values = published()
    for column, metric in _TABLE_8.items():
        found = [
            values.get(("loo2023/table8", dataset, str(count), method, metric), "") for dataset, count, method in sets
        ]
        if any(found):
            table[column] = found
    table["Numbers"] = [_numbers(one, summaries) for _, one in table.iterrows()]
    for column, key in {"Distilled at width": "width", "Distilled on": "machine"}.items():
        table[column] = [summaries.get(name, {}).get(key, "") for name in table["experiment"]]
    return table.rename(columns=_HEADERS)


def _numbers(one: pd.Series, summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """How many numbers a set, or a part of it, stores."""
    summary = summaries.get(one["experiment"])
    if summary is None:
        return ""
    return f"{summary['numbers'] * one['images_per_class'] // summary['images_per_class']:,}"


def storage(rows: pd.DataFrame, summaries: Mapping[str, Mapping[str, Any]]) -> pd.Series:
    """Images per class that each row's set takes the room of: its own number, or fewer where it stores a basis."""
    sizes = {name: summary["storage_images_per_class"] for name, summary in summaries.items()}
    whole = ~rows["method"].str.endswith(SUBSET) & rows["experiment"].isin(sizes)
    return rows["images_per_class"].where(~whole, rows["experiment"].map(sizes)).astype(int)


def cross_architecture(rows: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy of each set by architecture, its width and the learning rate that was chosen for it."""
    crossed = rows[rows["protocol"] == "cross_architecture"]
    keys = [*IDENTITY, "architecture", "width"]
    records = [
        (*key, f"{values['learning_rate']['value'].iloc[0]:g}", networks(values["accuracy"]))
        for key, group in crossed.groupby(keys, sort=False)
        for values in [dict(list(group.groupby("metric")))]
    ]
    table = pd.DataFrame(records, columns=[*keys, "learning_rate", "accuracy"])
    values = published()
    table["Published"] = [
        values.get(("loo2023/table3", dataset, str(count), method, f"accuracy/{_TABLE_3.get(architecture)}"), "")
        for dataset, count, method, architecture in table[keys[1:5]].itertuples(index=False, name=None)
    ]
    return table.rename(columns=_HEADERS)


def _spread(rows: pd.DataFrame, keys: list[str], column: str, names: list[str]) -> pd.DataFrame:
    """One line per combination of `keys`, in order of appearance, and one text column per name; empty where no rows."""
    if rows.empty:
        return pd.DataFrame(columns=[*keys, *names])
    cells = rows.groupby([*keys, column], sort=False)[["seed", "value"]].apply(networks)
    return cells.unstack(column, fill_value="", sort=False).reindex(columns=names, fill_value="").reset_index()


def membership_inference(rows: pd.DataFrame) -> pd.DataFrame:
    """AUC, its interval, advantage and true positive rates per attack, with the attacked networks' test accuracy."""
    attacked = final(rows[rows["protocol"].str.startswith(_ATTACK_PROTOCOL)])
    attacked = attacked.assign(trained_on=attacked["protocol"].str.removeprefix(_ATTACK_PROTOCOL))
    keys = [*IDENTITY, "trained_on"]
    records, known = [], published()
    for key, group in attacked.groupby(keys, sort=False):
        values = {str(metric): chosen["value"] for metric, chosen in group.groupby("metric", sort=False)}
        for attack in [metric.removeprefix("auc/") for metric in values if metric.startswith("auc/")]:
            auc = interval(*(values[f"{bound}/{attack}"] for bound in ("auc", "auc_low", "auc_high")))
            rates = [percent(values[f"{rate}/{attack}"]) for rate in _RATES]
            _, dataset, count, method, trained_on = map(str, key)
            printed = known.get(
                (
                    _TABLES_5_6.get(dataset, ""),
                    dataset,
                    count,
                    _TRAINED_ON.get(trained_on, method),
                    f"auc/{_ATTACKS.get(attack, attack)}",
                ),
                "",
            )
            records.append((*key, percent(values["accuracy"]), attack, auc, printed, *rates))
    columns = [*keys, "accuracy", "attack", "auc", "Published AUC", *_RATES]
    return pd.DataFrame(records, columns=columns).rename(columns=_HEADERS)


def robustness(rows: pd.DataFrame, summaries: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Label-robust and augmentation-robust score of each set, see rcig.statistics, with what they are made of.

    Only sets that were judged with hard labels, of whose dataset the full set was and of whose size, see `storage`, by
    the same protocols and width, a random real subset was; where either lacks augmentation its score is empty.
    """
    judged = final(rows)
    judged = judged[judged["metric"] == "accuracy"]
    judged = judged.assign(storage=storage(judged, summaries))
    full = judged[judged["protocol"].isin(_FULL)].groupby("dataset")["value"].mean()
    keys, match = [*IDENTITY, "width"], ["dataset", "storage", "width"]
    means = judged.groupby([*keys, "storage", "protocol"], sort=False)["value"].mean().unstack("protocol").reset_index()
    means = means.reindex(columns=[*keys, "storage", "loo2023", "loo2023_augmented", "loo2023_hard"])
    randoms = means[means["method"] == "random_real"]
    records = []
    for _, one in means[means["loo2023_hard"].notna() & (means["method"] != "random_real")].iterrows():
        same = (randoms[match] == one[match]).all(axis=1)
        if one["dataset"] not in full or not same.any():
            continue
        random = randoms[same].iloc[0]
        plain = {"distilled": one["loo2023"], "random": random["loo2023"]}
        hard = {"full_hard": full[one["dataset"]], "distilled_hard": one["loo2023_hard"]}
        augmented = {"distilled_augmented": one["loo2023_augmented"], "random_augmented": random["loo2023_augmented"]}
        given = pd.Series(augmented).notna().all()
        records.append(
            (
                *one[keys],
                f"{100 * (hard['full_hard'] - hard['distilled_hard']):.1f}",
                f"{100 * (plain['distilled'] - plain['random']):.1f}",
                f"{label_robust_score(**hard, **plain):.3f}",
                f"{augmentation_robust_score(**augmented, **plain):.3f}" if given else "",
            )
        )
    scores = ["Lost with hard labels", "Gained over random", "Label-robust score", "Augmentation-robust score"]
    return pd.DataFrame(records, columns=[*keys, *scores]).rename(columns=_HEADERS)


def hardness(
    predictions: Mapping[str, Predictions], references: Mapping[str, Predictions], datasets: Mapping[str, str]
) -> pd.DataFrame:
    """Accuracy of each set's networks on the test images that none, some or all reference networks miss.

    `predictions` by experiment, `references` (of the full dataset) by dataset, `datasets` by experiment.
    """
    records = []
    for experiment, found in predictions.items():
        dataset = datasets[experiment]
        if dataset not in references:
            continue
        count = references[dataset].predicted[..., 0].size
        for misses, group in by_hardness(found, references[dataset]).groupby("missed"):
            images = group["images"].iloc[0]
            records.append((experiment, dataset, f"{misses} of {count}", f"{images:,}", networks(group)))
    columns = "Experiment, Dataset, Missed by, Test images, Accuracy"
    return pd.DataFrame(records, columns=columns.split(", "))


def comparisons(rows: pd.DataFrame, summaries: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Differences in accuracy between the sets of one dataset, size, protocol and width, in percentage points.

    The size is what they take to store, see `storage`.

    Paired by seed, with the 95 % interval over seeds, see rcig.statistics; a caution where they are too few for one.
    """
    headers = _PROTOCOLS | _OTHER_PROTOCOLS
    rows = final(rows)
    chosen = rows[rows["protocol"].isin(headers.keys()) & (rows["metric"] == "accuracy")]
    chosen = chosen.assign(storage=storage(chosen, summaries))
    records = []
    for (dataset, count, protocol, width), same in chosen.groupby(
        ["dataset", "storage", "protocol", "width"], sort=False
    ):
        part = same["method"].where(same["method"].str.endswith(SUBSET), "")
        named = same.assign(name=same["experiment"].where(part == "", same["experiment"] + ", a part"))
        sets = dict(list(named.groupby("name", sort=False)))
        for first, second in combinations(sorted(sets, key=lambda name: -sets[name]["value"].mean()), 2):
            if set(sets[first]["seed"]) & set(sets[second]["seed"]):
                found = paired(sets[first], sets[second])
                bounds = f" [{100 * found.low:.1f}, {100 * found.high:.1f}]" if found.seeds > 1 else ""
                difference = f"{100 * found.mean:.1f}{bounds}"
                line = (dataset, count, headers[str(protocol)], width, first, second, difference, found.seeds)
                records.append((*line, caution(found)))
    columns = "Dataset, Size, Protocol, Width, Set, Less, Difference, Seeds, Caution"
    return pd.DataFrame(records, columns=columns.split(", "))


def datasets(facts: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """What each dataset holds; `facts` are those of stages.describe."""
    records = [
        (
            name,
            " × ".join(map(str, known["shape"])),
            len(known["class_names"]),
            *(
                f"{count:,}"
                for count in (sum(known["counts"]["train"]), known["held_out"], sum(known["counts"]["test"]))
            ),
            known["test"],
            known["whitening"],
        )
        for name, known in facts.items()
    ]
    columns = "Dataset, Images, Classes, Train, Held out, Test, Test part, Whitening"
    return pd.DataFrame(records, columns=columns.split(", "))


def times(summaries: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """What each distillation took, and on what; `summaries` are the summary.json by experiment."""
    records = [_time(experiment, summary) for experiment, summary in summaries.items()]
    columns = "Experiment, Width, Seeds, Steps, Time, Seconds per step and seed, Held-out accuracy, Machine, Versions"
    table = pd.DataFrame(records, columns=columns.split(", "))
    known = published()
    keys = ("dataset", "images_per_class", "method")
    printed = [
        known.get(("loo2023/table7", *(str(summary[key]) for key in keys), "seconds_per_iteration"), "")
        for summary in summaries.values()
    ]
    if any(printed):
        table.insert(6, "Published seconds per step", printed)
    return table


def _time(experiment: str, summary: Mapping[str, Any]) -> tuple[Any, ...]:
    seeds, steps, held_out = len(summary["seeds"]), summary["steps"], summary["heldout_accuracy"]
    return (
        experiment,
        summary["width"],
        seeds,
        steps,
        duration(summary["seconds"]),
        f"{summary['seconds'] / (steps * seeds):.3g}" if steps else "",
        "" if held_out is None else f"{100 * held_out:.1f}",
        summary["machine"],
        ", ".join(f"{name} {version}" for name, version in sorted(summary["versions"].items())),
    )


def duration(seconds: float) -> str:
    """Seconds in the largest unit that leaves two or more of it: "90.0 s", "12.5 min", "3.2 h"."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def slopes(studies: Mapping[str, Measured]) -> pd.DataFrame:
    """What one more iteration costs in time, or one more image of a backward pass in memory, by least squares."""
    records = []
    for name, measured in studies.items():
        if measured.study.figure == "steps":
            points = measured.points()
            # Iterations of cg cost nothing once it has converged, which a light body brings about earlier.
            apart = ["solver", *({"body_weight"} & set(points))]
            fits = [
                (
                    ", ".join(f"{name} {value}" for name, value in zip(apart, values, strict=True)),
                    some,
                    _STEPS.get(str(values[0]), []),
                )
                for values, some in points.groupby(apart, sort=False)
            ]
            unit, scale, column = "ms per step", 1000, "seconds_per_step"
        else:
            fits = [(line, points, ["subset"]) for line, points in measured.lines("subset").items()]
            unit, scale, column = "MiB", 1, "memory_mb"
        for line, points, over in fits:
            if over and set(over) <= set(points) and len(points) > len(over) + 1:
                found, fit = least_squares(points[over], scale * points[column])
                what = {"Study": name, "Points": f"{line} ({len(points)})".strip()}
                records += [
                    what | {"Per": term, "Slope": f"{slope:.3g} {unit}", "R²": f"{fit:.3f}"}
                    for term, slope in zip(over, found, strict=True)
                ]
    return pd.DataFrame(records, columns=["Study", "Points", "Per", "Slope", "R²"])


def least_squares(x: pd.DataFrame, y: pd.Series) -> tuple[np.ndarray, float]:
    """Slopes of a linear fit of y by all columns of x together, and its R²."""
    design = np.column_stack([x.to_numpy(float), np.ones(len(x))])
    solution = np.linalg.lstsq(design, y.to_numpy(), rcond=None)[0]
    rest, total = np.var(y.to_numpy() - design @ solution), np.var(y.to_numpy())
    return solution[:-1], float(1 - rest / total) if total else 1.0


def to_markdown(table: pd.DataFrame) -> str:
    """A table in GitHub's Markdown, its columns padded to one width so that the source reads as a table too."""
    columns = [[name, *table[name].astype(str)] for name in table]
    widths = [max(map(len, column)) for column in columns]
    header, *lines = zip(*columns, strict=True)
    rule = ["-" * width for width in widths]
    return "".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |\n"
        for line in (header, rule, *lines)
    )


def to_latex(table: pd.DataFrame) -> str:
    """A LaTeX tabular for the booktabs package; special characters are escaped."""
    return table.to_latex(index=False, escape=True).replace("±", r"$\pm$")
