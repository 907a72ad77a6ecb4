"""What the images are worth without the help of their labels and of augmentation."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from rcig.report.blocks import Section, Table
from rcig.report.results import Report
from rcig.report.tables import FULL, HEADERS, IDENTITY, final, storage
from rcig.statistics import augmentation_robust_score, label_robust_score

ORDER = 20

_CAPTION = (
    "Scores from 0 to 1 as DD-Ranking (2024) defines them, of accuracies as fractions, both weights ½. Lost with hard"
    " labels: percentage points between networks trained on the full dataset and on this set with hard labels. Gained"
    " over random: against as many real images drawn at random, by the protocol without augmentation. A set that equals"
    " the full dataset gains as much as can be; one that is no better than random images loses."
)


def section(report: Report) -> Section:
    table = robust_scores(report.rows, report.summaries)
    blocks = [] if table.empty else [Table(table, _CAPTION, ("Dataset", "Images per class", "Method"))]
    return Section("robustness", "What the images are worth alone", blocks, {"robustness": table})


def robust_scores(rows: pd.DataFrame, summaries: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Label-robust and augmentation-robust score of each set, see rcig.statistics, with what they are made of.

    Only sets that were judged with hard labels, of whose dataset the full set was and of whose size, see `storage`, by
    the same protocols and width, a random real subset was; where either lacks augmentation its score is empty.
    """
    judged = final(rows)
    judged = judged[judged["metric"] == "accuracy"]
    judged = judged.assign(storage=storage(judged, summaries))
    full = judged[judged["protocol"].isin(FULL)].groupby("dataset")["value"].mean()
    keys, match = [*IDENTITY, "width"], ["dataset", "storage", "width"]
    means = judged.groupby([*keys, "storage", "protocol"], sort=False)["value"].mean().unstack("protocol").reset_index()
    means = means.reindex(columns=[*keys, "storage", "loo2023", "loo2023_augmented", "loo2023_hard"])
    means = means[means["loo2023"].notna()]
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
    return pd.DataFrame(records, columns=[*keys, *scores]).rename(columns=HEADERS)
