"""cross_arch EXPERIMENT: test accuracy of other architectures trained on the distilled set."""

from rcig import nets, rows, train
from stages.common import RESULTS, run
from stages.inputs import Inputs, accuracy_rows, load_inputs


def main(name: str) -> None:
    inputs = load_inputs(name)
    widths = inputs.experiment.cross_arch.widths
    found = [row for architecture, width in widths.items() for row in judge(inputs, architecture, width)]
    rows.save(RESULTS / "cross_arch" / f"{name}.csv", name, found)


def judge(inputs: Inputs, architecture: str, width: int) -> list[rows.Row]:
    """Rows of one architecture, for every seed of the distilled set."""
    settings = inputs.experiment.cross_arch
    depth = {"depth": inputs.dataset.depth} if architecture in nets.WITH_DEPTH else {}
    net = nets.build(architecture, inputs.shape, inputs.dataset.classes, width=width, **depth)
    optimizer = train.adam(settings.steps, settings.learning_rate, settings.steps // 10)
    schedule = train.Schedule(settings.steps, optimizer, batch_size=256)
    return accuracy_rows(
        inputs,
        net,
        schedule,
        settings.networks,
        {"protocol": "cross_architecture", "architecture": architecture, "width": width},
    )


if __name__ == "__main__":
    run(main)
