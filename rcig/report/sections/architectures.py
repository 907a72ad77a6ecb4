"""What the sets are worth to other architectures than the one they were distilled with."""

import pandas as pd

from rcig.report.blocks import Section, Table
from rcig.report.results import Report
from rcig.report.tables import HEADERS, IDENTITY, by_experiment, networks, published

ORDER = 60

_CAPTION = (
    "Test accuracy in percent by the architecture trained on each set and the width of its first stage: mean ± sample"
    " standard deviation (networks, over all seeds). The learning rate is the best of those given in the settings, on"
    " held-out training images. Published: Loo et al. (2023), Table 3, for the architectures of their public code."
)
_TABLE_3 = {"conv": "conv_nn", "resnet18_stem_bn": "resnet_bn", "vgg11_narrow": "vgg_bn", "alexnet": "alexnet"}
"""architectures that are those of the paper's public code -> their names in its table 3"""


def section(report: Report) -> Section:
    table = by_architecture(report.rows)
    filters = ("Dataset", "Images per class", "Method", "Architecture")
    blocks = [] if table.empty else [Table(table, _CAPTION, filters)]
    sets = {name: [Table(lines, _CAPTION)] for name, lines in by_experiment(table).items()}
    return Section("architectures", "Other architectures", blocks, {"cross_architecture": table}, sets)


def by_architecture(rows: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy of each set by architecture, its width and the learning rate that was chosen for it."""
    crossed = rows[rows["protocol"] == "cross_architecture"]
    keys = [*IDENTITY, "architecture", "width"]
    records = [
        (*key, f"{values['learning_rate']['value'].iloc[0]:g}", networks(values["accuracy"]))
        for key, group in crossed.groupby(keys, sort=False)
        for values in [dict(list(group.groupby("metric")))]
    ]
    table = pd.DataFrame(records, columns=[*keys, "Learning rate", "Test accuracy"])
    values = published()
    table["Published"] = [
        values.get(("loo2023/table3", dataset, str(count), method, f"accuracy/{_TABLE_3.get(architecture)}"), "")
        for dataset, count, method, architecture in table[keys[1:5]].itertuples(index=False, name=None)
    ]
    return table.rename(columns=HEADERS | {"architecture": "Architecture"})
