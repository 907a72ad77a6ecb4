"""How good the sets are: test accuracy by protocol, differences between sets of one size, and parts of sets."""

from collections.abc import Mapping
from itertools import combinations, cycle
from typing import Any

import pandas as pd

from rcig.report.blocks import Block, Figure, Picture, Section, Table
from rcig.report.drawing import COLOURS, in_percent, legend, panels, png, styled
from rcig.report.results import Report
from rcig.report.tables import FULL, HEADERS, IDENTITY, OTHER_PROTOCOLS, PROTOCOLS, final, networks, published, storage
from rcig.rows import PART
from rcig.statistics import caution, paired

ORDER = 10

_TABLE_8 = {
    "Published, no augmentation": "accuracy/no_augmentation",
    "Published, augmentation": "accuracy/augmentation",
}


def section(report: Report) -> Section:
    table = by_protocol(report.rows, report.summaries)
    differences = comparisons(report.rows, report.summaries)
    drawn = parts(final(report.rows))
    blocks: list[Block] = []
    if not table.empty:
        blocks.append(Table(_by_size(table), 1, _CAPTION))
    if not differences.empty:
        blocks.append(Table({"": differences}, 4, _DIFFERENCES))
    blocks += [
        Figure(
            f"{name}: sets and, on one line with each, its parts: the first blocks of a boosted set, else a random"
            " part",
            [Picture(drawing, f"Test accuracy against images per class of sets and parts of sets, {name}")],
        )
        for name, drawing in drawn.items()
    ]
    files = {f"parts-{name}": drawing for name, drawing in drawn.items()}
    return Section("accuracy", "Accuracy", blocks, {"accuracy": table, "comparisons": differences}, files)


_CAPTION = (
    "Test accuracy in percent of networks trained on each set: mean ± sample standard deviation (networks, over all"
    " seeds, and the standard error of the mean over seeds where there are several). The sets of random_real are real"
    " images drawn at random. Width: filters of the networks’ first stage; seeds: distilled sets; stored numbers: how"
    " many of them a set stores; size: what its settings are made for; revision: of the code that made it. Published:"
    " as printed by Loo et al. (2023), in Table 1 for random_real, vig, cig and rig, in Table 4 for ImageNette,"
    " ImageWoof and ImageNet, else in Table 2, which for rcig holds the better of the two protocols; by protocol in"
    " Table 8. Their networks are 128 wide."
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


def _stored(one: pd.Series, summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """How many numbers a set, or a part of it, stores."""
    summary = summaries.get(one["experiment"])
    if summary is None:
        return ""
    return f"{summary['stored_floats'] * one['images_per_class'] // summary['images_per_class']:,}"


def _by_size(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The lines of each dataset and number of images per class, without these columns."""
    size = ["Dataset", "Images per class"]
    groups = table.groupby(size, sort=False)
    return {f"{dataset}, {count} per class": lines.drop(columns=size) for (dataset, count), lines in groups}


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


@styled
def parts(rows: pd.DataFrame) -> dict[str, bytes]:
    """Accuracy against images per class of sets and of their parts: random ones, or the first blocks of boosted sets.

    By dataset, method, protocol and width, where parts were judged: a line joins a set and its parts, every experiment
    has its own; means over networks and their standard deviation (Feng et al. 2023, the intercorrelation of distilled
    images). `rows` are those of fully trained networks.
    """
    accuracies = rows[rows["metric"] == "accuracy"]
    accuracies = accuracies.assign(root=accuracies["method"].str.split("+").str[0])
    drawn = {}
    for (data, root, protocol, width), some in accuracies.groupby(["dataset", "root", "protocol", "width"], sort=False):
        if not some["method"].str.endswith(PART).any():
            continue
        figure, (axes,) = panels(1, width=4.5)
        axes.set(title="Test accuracy", xlabel="Images per class")
        in_percent(axes)
        axes.set_xticks(sorted(some["images_per_class"].unique()))
        for (experiment, of_one), colour in zip(some.groupby("experiment", sort=False), cycle(COLOURS), strict=False):
            line = of_one.groupby("images_per_class")["value"].agg(["mean", "std"]).fillna(0)
            look: dict[str, Any] = {"color": colour, "marker": "o", "markersize": 4, "capsize": 3, "label": experiment}
            axes.errorbar(line.index, line["mean"], line["std"], **look)
        legend(figure, axes)
        drawn[f"{data}-{root}-{protocol}-{width}"] = png(figure)
    return drawn
