"""evaluate EXPERIMENT: test accuracy of networks trained on the distilled set, by each protocol."""

from rcig import evaluate, nets, rows
from stages.common import RESULTS, run
from stages.inputs import Inputs, accuracy_rows, load_inputs


def main(name: str) -> None:
    inputs = load_inputs(name)
    settings = inputs.experiment.evaluate
    found = [row for protocol in settings.protocols for row in judge(inputs, protocol)]
    rows.save(RESULTS / "evaluate" / f"{name}.csv", name, found)


def judge(inputs: Inputs, protocol: str) -> list[rows.Row]:
    """Rows of one protocol, for every seed of the distilled set."""
    experiment, dataset = inputs.experiment, inputs.dataset
    settings = experiment.evaluate
    architecture, width, schedule = evaluate.PROTOCOLS[protocol]
    width = width or settings.width
    net = nets.build(architecture, inputs.shape, dataset.classes, width=width, depth=dataset.depth)
    return accuracy_rows(
        inputs,
        net,
        schedule(experiment.images_per_class * dataset.classes),
        settings.networks,
        {"protocol": protocol, "architecture": architecture, "width": width},
    )


if __name__ == "__main__":
    run(main)
