"""evaluate EXPERIMENT: test accuracy of networks trained on the distilled set, and on parts of it, by each protocol.

What the networks of the first protocol predict is kept for every test image. The mean accuracy by protocol is what
`dvc metrics` shows.
"""

import numpy as np

from rcig import evaluate, predictions, rows, store
from stages.common import RESULTS, run
from stages.inputs import Inputs, Judged, judge, load_inputs, networks


def main(name: str) -> None:
    inputs = load_inputs(name)
    settings = inputs.experiment.evaluate
    found, parts = (
        [by_protocol(chosen, protocol) for chosen in sets for protocol in settings.protocols]
        for sets in ([inputs], map(inputs.part, settings.subsets))
    )
    folder = RESULTS / "evaluate"
    rows.save(folder / f"{name}.csv", name, [row for judged in found + parts for row in judged.rows])
    predictions.save(folder / f"{name}-predictions.npz", found[0].predicted, inputs.test.labels, inputs.class_names)
    means = {protocol: final_accuracy(judged) for protocol, judged in zip(settings.protocols, found, strict=True)}
    store.save_json(folder / f"{name}.json", {"accuracy": means})


def final_accuracy(judged: Judged) -> float:
    """Mean test accuracy of the fully trained networks."""
    last = max(row["step"] for row in judged.rows)
    return float(np.mean([row["value"] for row in judged.rows if row["step"] == last]))


def by_protocol(inputs: Inputs, name: str) -> Judged:
    """What one protocol says of the set of every seed."""
    experiment, protocol = inputs.experiment, evaluate.PROTOCOLS[name]
    settings = experiment.evaluate
    width = protocol.width or settings.width
    schedule = protocol.schedule(experiment.images_per_class * inputs.dataset.classes)
    return judge(
        inputs,
        networks(inputs, protocol.architecture, width, schedule, settings.networks),
        {"protocol": name, "architecture": protocol.architecture, "width": width},
        protocol.labels,
        at=evaluate.milestones(schedule.steps, settings.measurements),
    )


if __name__ == "__main__":
    run(main)
