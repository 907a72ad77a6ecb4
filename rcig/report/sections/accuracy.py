"""How good the sets are: test accuracy by protocol, differences between sets of one size, and parts of sets."""

import math
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import pandas as pd

from rcig.report import charts
from rcig.report.blocks import Block, Chart, Fold, Row, Section, Table
from rcig.report.results import Report
from rcig.report.standings import Standing, published_accuracy, standings
from rcig.report.tables import FULL, HEADERS, IDENTITY, OTHER_PROTOCOLS, PROTOCOLS, final, networks, published, storage
from rcig.rows import PART
from rcig.statistics import caution, paired

ORDER = 10

_TABLE_8 = {
    "Published, no augmentation": "accuracy/no_augmentation",
    "Published, augmentation": "accuracy/augmentation",
}


def section(report: Report) -> Section:
    found = standings(report)
    table = by_protocol(report.rows, report.summaries)
    differences = comparisons(report.rows, report.summaries)
    drawn = parts(final(report.rows))
    blocks: list[Block] = []
    if found:
        filters = ("Dataset", "Images per class", "Method", "Protocol", "Made for")
        blocks.append(Table(every_number(found), _CAPTION, filters))
    if not differences.empty:
        blocks.append(Fold("Differences between sets", [Table(differences, _DIFFERENCES, ("Dataset", "Protocol"))]))
    if drawn:
        blocks.append(Row(list(drawn.values())))
    of_one: dict[str, list[Standing]] = {}
    for one in found:
        of_one.setdefault(one.experiment, []).append(one)
    sets = {name: [Table(of_set(some), _OF_SET)] for name, some in of_one.items() if name in report.summaries}
    tables = {"accuracy": table, "comparisons": differences}
    return Section("accuracy", "Accuracy", blocks, tables, sets, folded=False)


_OF_SET = "Test accuracy in percent, mean ± sample standard deviation over all networks. SE: of the mean over seeds."


def every_number(found: list[Standing]) -> pd.DataFrame:
    """A line for each accuracy of a set, with all that it is of."""
    lines = [
        {
            "Set": one.experiment,
            "Accuracy": one.accuracy,
            "Published": one.published,
            "Protocol": one.protocol,
            "n": one.networks,
            "Seeds": one.seeds,
            "Width": one.width,
            "Hard labels": one.hard,
            "Made in": one.time,
            "Dataset": one.dataset,
            "Images per class": one.images,
            "Method": one.method,
            "Made for": one.size,
        }
        for one in found
    ]
    return pd.DataFrame(lines)


def of_set(found: list[Standing]) -> pd.DataFrame:
    """The same of one set, without what is the same in all lines."""
    lines = [
        {
            "Protocol": f"{one.protocol}, a part of {one.images} per class" if one.part else one.protocol,
            "Accuracy": one.accuracy,
            "SE": "" if math.isnan(one.error) else f"{one.error:.1f}",
            "n": one.networks,
            "Seeds": one.seeds,
            "Width": one.width,
            "Published": one.published,
        }
        for one in found
    ]
    return pd.DataFrame(lines)


_CAPTION = (
    "Test accuracy in percent of networks trained on each set: mean ± sample standard deviation over n networks of all"
    " seeds. The sets of random_real are real images drawn at random. Width: filters of the networks’ first stage;"
    " seeds: distilled sets; made for: size of the settings; made in: time for all seeds. Published: as printed by Loo"
    " et al. (2023) with networks 128 wide, of rcig by protocol (Table 8), else in Table 1 for random_real, vig, cig"
    " and rig, in Table 4 for ImageNette, ImageWoof and ImageNet, and in Table 2; of dc by Zhao et al. (2021)."
)
_DIFFERENCES = (
    "Differences between sets that take the same room, in percentage points: mean over the seeds that both have [95 %"
    " interval over seeds, by Student’s t]. Networks trained on one set are no independent repetitions, so one seed"
    " allows no interval. Room: images per class that the set takes the room of, all its numbers counted, those of a"
    " basis too."
)


def by_protocol(rows: pd.DataFrame, summaries: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Test accuracy of each set by protocol, the published one where the paper prints it, and what the set was made on.

    `summaries` are the summary.json by experiment.
    """
    rows = final(rows).assign(protocol=rows["protocol"].replace(FULL))
    run = {name: header for name, header in OTHER_PROTOCOLS.items() if name in set(rows["protocol"])}
    shown = PROTOCOLS | run
    chosen = rows[rows["protocol"].isin(shown.keys()) & (rows["metric"] == "accuracy")]
    keys = [*IDENTITY, "width"]
    table = _spread(chosen, keys, "protocol", list(shown)).rename(columns=shown)
    seeds = chosen.groupby("experiment")["seed"].nunique()
    table.insert(len(keys), "Seeds", [seeds[name] for name in table["experiment"]])
    table = pd.concat([table, _printed(table, summaries)], axis=1)
    table["Stored numbers"] = [_stored(one, summaries) for _, one in table.iterrows()]
    made = {"Size": "size", "Distilled at width": "width", "Distilled on": "machine", "Revision": "revision"}
    for column, key in made.items():
        found = [summaries[name][key] if name in summaries else None for name in table["experiment"]]
        table[column] = ["" if value is None else value for value in found]
    return table.rename(columns=HEADERS)


def _spread(rows: pd.DataFrame, keys: list[str], column: str, names: list[str]) -> pd.DataFrame:
    """One line per combination of `keys`, in order of appearance, and one text column per name; empty where no rows."""
    if rows.empty:
        return pd.DataFrame(columns=[*keys, *names])
    cells = rows.groupby([*keys, column], sort=False)[["seed", "value"]].apply(networks)
    return cells.unstack(column, fill_value="", sort=False).reindex(columns=names, fill_value="").reset_index()


def _printed(table: pd.DataFrame, summaries: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Published accuracies beside these lines; the columns of table 8 only where it has any of them."""
    # What is distilled from a chunk of the training images is no set of the paper's tables.
    chunks = {name for name, summary in summaries.items() if summary["chunk"] is not None}
    named = table["dataset"].where(~table["experiment"].isin(chunks), "")
    sets = list(zip(named, table["images_per_class"], table["method"], strict=True))
    best, values = published_accuracy(), published()
    columns = {
        "Published": [
            best.get((dataset, "full" if method == "full_dataset" else str(count), method), "")
            for dataset, count, method in sets
        ]
    }
    for column, metric in _TABLE_8.items():
        found = [
            values.get(("loo2023/table8", dataset, str(count), method, metric), "") for dataset, count, method in sets
        ]
        if any(found):
            columns[column] = found
    return pd.DataFrame(columns, index=table.index)


def _stored(one: pd.Series, summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """How many numbers a set, or a part of it, stores."""
    summary = summaries.get(one["experiment"])
    if summary is None:
        return ""
    return f"{summary['stored_floats'] * one['images_per_class'] // summary['images_per_class']:,}"


def comparisons(rows: pd.DataFrame, summaries: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Differences in accuracy between the sets of one dataset, room, protocol and width, in percentage points.

    The room is what they take to store, see `storage`. Paired by seed, with the 95 % interval over seeds, see
    rcig.statistics; a caution where they are too few for one.
    """
    headers = PROTOCOLS | OTHER_PROTOCOLS
    rows = final(rows)
    chosen = rows[rows["protocol"].isin(headers.keys()) & (rows["metric"] == "accuracy")]
    chosen = chosen.assign(storage=storage(chosen, summaries))
    records = []
    for (dataset, count, protocol, width), same in chosen.groupby(
        ["dataset", "storage", "protocol", "width"], sort=False
    ):
        of_part = same["method"].str.endswith(PART)
        named = same.assign(name=same["experiment"].where(~of_part, same["experiment"] + ", a part"))
        sets = dict(list(named.groupby("name", sort=False)))
        for first, second in combinations(sorted(sets, key=lambda name: -sets[name]["value"].mean()), 2):
            if set(sets[first]["seed"]) & set(sets[second]["seed"]):
                found = paired(sets[first], sets[second])
                bounds = f" [{100 * found.low:.1f}, {100 * found.high:.1f}]" if found.seeds > 1 else ""
                difference = f"{100 * found.mean:.1f}{bounds}"
                line = (dataset, count, headers[str(protocol)], width, first, second, difference, found.seeds)
                records.append((*line, caution(found)))
    columns = "Dataset, Room, Protocol, Width, Set, Less, Difference, Seeds, Caution"
    return pd.DataFrame(records, columns=columns.split(", "))


def parts(rows: pd.DataFrame) -> dict[str, Chart]:
    """Accuracy against images per class of sets and of their parts: random ones, or the first blocks of boosted sets.

    By dataset, method, protocol and width, where parts were judged: a line joins a set and its parts, every experiment
    has its own; means over networks and their standard deviation (Feng et al. 2023, the intercorrelation of distilled
    images). `rows` are those of fully trained networks.
    """
    accuracies = rows[rows["metric"] == "accuracy"]
    accuracies = accuracies.assign(root=accuracies["method"].str.split("+").str[0])
    drawn = {}
    for key, some in accuracies.groupby(["dataset", "root", "protocol", "width"], sort=False):
        if not some["method"].str.endswith(PART).any():
            continue
        points = some.groupby(["experiment", "images_per_class"], sort=False)["value"].agg(["mean", "std"]).fillna(0)
        points = points.reset_index().rename(columns={"experiment": "name", "images_per_class": "images"})
        points = points.sort_values("images").assign(
            low=points["mean"] - points["std"], high=points["mean"] + points["std"]
        )
        spec = charts.lines(
            points,
            charts.number("images", "images per class"),
            charts.number("mean", "test accuracy", percent=True),
            list(points["name"]),
            dots=True,
        )
        name = "-".join(map(str, key))
        drawn[name] = Chart(
            f"{name}: sets and, on one line with each, its parts: the first blocks of a boosted set, else random ones",
            f"Test accuracy against images per class of sets and parts of sets, {name}",
            charts.with_bars(spec, "low", "high"),
            f"parts-{name}",
        )
    return drawn
