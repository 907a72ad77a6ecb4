"""Whether a network tells what was in the real data behind its training set."""

import pandas as pd
from matplotlib.axes import Axes

from rcig.report.blocks import Block, Figure, Paragraph, Picture, Section, Table
from rcig.report.drawing import COLOURS, INK, in_percent, legend, panels, png, styled
from rcig.report.results import Report
from rcig.report.tables import HEADERS, IDENTITY, final, percent, published

ORDER = 70

_TEXT = (
    "Can an attacker tell from a network’s outputs whether an image was in the real data behind its training set? An"
    " AUC of 0.5 is guessing. TPR at 1\u00a0% FPR is the share of members found when one non-member in a hundred is"
    " falsely accused; guessing finds 1\u00a0%. The advantage is the largest difference of the two rates."
)
_CAPTION = (
    "Attacks on networks trained on the real members, on a real subset of them or on the set distilled from them. AUC:"
    " mean [bounds of the 95 % interval of each network’s AUC, averaged] (networks). Published AUC: Loo et al. (2023),"
    " Tables 5 and 6. Test accuracy, advantage and TPR: percent, mean ± sample standard deviation (networks)."
)
_PROTOCOL = "membership_inference/"
_RATES = {
    "advantage": "Advantage",
    "tpr_at_1_percent_fpr": "TPR at 1 % FPR",
    "tpr_at_0.1_percent_fpr": "TPR at 0.1 % FPR",
}
_TRAINED_ON = {"real_members": "all members", "real_subset": "a real subset", "distilled": "the distilled set"}
_PUBLISHED_TABLES = {"mnist": "loo2023/table5", "fashion_mnist": "loo2023/table6"}
_PUBLISHED_AS = {"real_members": "real", "real_subset": "random_real"}
"""what networks were trained on -> the method of published values"""
_PUBLISHED_ATTACKS = {"logistic_regression": "lr", "random_forest": "rf"}


def section(report: Report) -> Section:
    table = by_attack(report.rows)
    curves = {name: draw(rows) for name, rows in attacked_often(report.rows).items()}
    blocks: list[Block] = []
    if not table.empty:
        alt = "Test accuracy and AUC of attacks against training steps, by what the networks were trained on"
        figures = [Figure(name, [Picture(drawn, alt)]) for name, drawn in curves.items()]
        blocks = [Paragraph(_TEXT), *figures, Table(_by_experiment(table), 2, _CAPTION)]
    files = {f"attacks-{name}": drawn for name, drawn in curves.items()}
    return Section("membership", "Membership inference", blocks, {"membership_inference": table}, files)


def by_attack(rows: pd.DataFrame) -> pd.DataFrame:
    """AUC, its interval, advantage and true positive rates per attack, with the attacked networks' test accuracy."""
    attacked = final(rows[rows["protocol"].str.startswith(_PROTOCOL)])
    attacked = attacked.assign(trained_on=attacked["protocol"].str.removeprefix(_PROTOCOL))
    keys = [*IDENTITY, "trained_on"]
    records = []
    for key, group in attacked.groupby(keys, sort=False):
        values = {str(metric): chosen["value"] for metric, chosen in group.groupby("metric", sort=False)}
        for attack in [metric.removeprefix("auc/") for metric in values if metric.startswith("auc/")]:
            auc = interval(*(values[f"{bound}/{attack}"] for bound in ("auc", "auc_low", "auc_high")))
            rates = [percent(values[f"{rate}/{attack}"]) for rate in _RATES]
            _, dataset, count, method, trained_on = map(str, key)
            printed = _printed((dataset, count, method), trained_on, attack)
            records.append((*key, percent(values["accuracy"]), attack, auc, printed, *rates))
    columns = [*keys, "Test accuracy", "Attack", "AUC", "Published AUC", *_RATES.values()]
    return pd.DataFrame(records, columns=columns).rename(columns=HEADERS | {"trained_on": "Trained on"})


def interval(auc: pd.Series, low: pd.Series, high: pd.Series) -> str:
    """AUCs and the bounds of their intervals, one per network -> "0.512 [0.480, 0.544] (15)", means and number."""
    center, bottom, top = (series.to_numpy().mean() for series in (auc, low, high))
    return f"{center:.3f} [{bottom:.3f}, {top:.3f}] ({len(auc)})"


def _printed(of: tuple[str, str, str], trained_on: str, attack: str) -> str:
    """The published AUC of attacks on a set of this dataset, images per class and method, where there is one."""
    dataset, count, method = of
    source, metric = _PUBLISHED_TABLES.get(dataset, ""), f"auc/{_PUBLISHED_ATTACKS.get(attack, attack)}"
    return published().get((source, dataset, count, _PUBLISHED_AS.get(trained_on, method), metric), "")


def _by_experiment(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The lines of each experiment, without the columns that name it."""
    groups = table.groupby("Experiment", sort=False)
    return {str(experiment): lines.iloc[:, len(IDENTITY) :] for experiment, lines in groups}


def attacked_often(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of attacks, by experiment whose networks were attacked at more than one step."""
    attacked = rows[rows["protocol"].str.startswith(_PROTOCOL)]
    found = {str(name): of_one for name, of_one in attacked.groupby("experiment", sort=False)}
    return {name: of_one for name, of_one in found.items() if of_one["step"].nunique() > 1}


@styled
def draw(rows: pd.DataFrame) -> bytes:
    """Accuracy and AUCs of the attacks on one set against training steps (Loo et al. 2023, figure 3)."""
    steps = rows.groupby("metric")["step"].nunique()
    metrics = ["accuracy", *(name for name in steps[steps > 1].index if name.startswith("auc/"))]
    figure, by_metric = panels(len(metrics), width=4.5 * len(metrics))
    for axes, metric in zip(by_metric, metrics, strict=True):
        _draw_metric(axes, rows, metric)
    legend(figure, by_metric[0], columns=3, title="Trained on")
    return png(figure)


def _draw_metric(axes: Axes, rows: pd.DataFrame, metric: str) -> None:
    """Means over networks, with their standard deviation as a band, by what they were trained on."""
    title = "Test accuracy" if metric == "accuracy" else f"AUC, {metric.removeprefix('auc/')}"
    axes.set(title=title, xlabel="Training step", xscale="log")
    measured = sorted(rows["step"].unique())
    axes.set_xticks(measured, [f"{step:g}" for step in measured])
    axes.minorticks_off()
    if metric == "accuracy":
        in_percent(axes)
    else:
        axes.axhline(0.5, color=INK, linestyle="--", linewidth=1)
    for protocol, colour in zip(rows["protocol"].unique(), COLOURS, strict=False):
        of_kind = rows[(rows["protocol"] == protocol) & (rows["metric"] == metric)]
        line = of_kind.groupby("step")["value"].agg(["mean", "std"]).fillna(0)
        label = _TRAINED_ON[protocol.removeprefix(_PROTOCOL)]
        axes.plot(line.index, line["mean"], color=colour, marker="o", markersize=3, label=label)
        band = line["mean"] - line["std"], line["mean"] + line["std"]
        axes.fill_between(line.index, *band, color=colour, alpha=0.2, linewidth=0)
