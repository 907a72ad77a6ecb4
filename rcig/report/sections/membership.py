"""Whether a network tells what was in the real data behind its training set."""

import pandas as pd

from rcig.report import charts
from rcig.report.blocks import Block, Chart, Paragraph, Row, Section, Table
from rcig.report.results import Report
from rcig.report.tables import HEADERS, IDENTITY, by_experiment, final, percent, published

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
_SHORT = (
    "AUC of each attack on networks trained on the distilled set: mean [bounds of the 95 % interval of each network’s"
    " AUC, averaged] (networks). The attacks on other networks, and their rates, stand in the section of each set."
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
    often = attacked_often(report.rows)
    sets: dict[str, list[Block]] = {}
    for name, lines in by_experiment(table).items():
        sets[name] = [Row(_charts(name, often[name]))] if name in often else []
        sets[name].append(Table(lines, _CAPTION, ("Trained on", "Attack")))
    blocks: list[Block] = []
    if not table.empty:
        blocks = [Paragraph(_TEXT), Table(_in_short(table), _SHORT, ("Dataset", "Images per class", "Method"))]
    return Section("membership", "Membership inference", blocks, {"membership_inference": table}, sets)


def _charts(name: str, rows: pd.DataFrame) -> list[Chart]:
    titles = {metric: f"AUC, {metric.removeprefix('auc/')}" for metric in rows["metric"]} | {
        "accuracy": "Test accuracy"
    }
    return [
        Chart(
            f"{titles[metric]} against training steps",
            f"{titles[metric]} of networks attacked against training steps, by what they were trained on, {name}",
            spec,
            f"attacks-{name}-{metric.removeprefix('auc/')}",
        )
        for metric, spec in draw(rows).items()
    ]


def _in_short(table: pd.DataFrame) -> pd.DataFrame:
    """The AUC of each attack on networks trained on the distilled set, one set a line."""
    of_set = table[table["Trained on"] == "distilled"]
    named = [HEADERS[column] for column in IDENTITY]
    short = of_set.pivot_table(index=named, columns="Attack", values="AUC", aggfunc="first", sort=False).fillna("")
    return short.reset_index()


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


def attacked_often(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of attacks, by experiment whose networks were attacked at more than one step."""
    attacked = rows[rows["protocol"].str.startswith(_PROTOCOL)]
    found = {str(name): of_one for name, of_one in attacked.groupby("experiment", sort=False)}
    return {name: of_one for name, of_one in found.items() if of_one["step"].nunique() > 1}


def draw(rows: pd.DataFrame) -> dict[str, charts.Spec]:
    """By metric: accuracy or AUCs of the attacks on one set against training steps (Loo et al. 2023, figure 3).

    Means over networks with their standard deviation, by what the networks were trained on.
    """
    steps = rows.groupby("metric")["step"].nunique()
    metrics = ["accuracy", *(name for name in steps[steps > 1].index if name.startswith("auc/"))]
    return {metric: _draw_metric(rows[rows["metric"] == metric]) for metric in metrics}


def _draw_metric(rows: pd.DataFrame) -> charts.Spec:
    names = rows["protocol"].str.removeprefix(_PROTOCOL).map(_TRAINED_ON)
    points = rows.groupby([names.rename("name"), "step"], sort=False)["value"].agg(["mean", "std"]).fillna(0)
    points = points.reset_index().sort_values("step")
    points = points.assign(low=points["mean"] - points["std"], high=points["mean"] + points["std"])
    accuracy = rows["metric"].iloc[0] == "accuracy"
    spec = charts.lines(
        points,
        charts.number("step", "training step", log=True),
        charts.number("mean", "test accuracy" if accuracy else "AUC", percent=accuracy),
        [name for name in _TRAINED_ON.values() if name in set(names)],
        title="trained on",
        dots=True,
    )
    return charts.with_bars(spec, "low", "high")
