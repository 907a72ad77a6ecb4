"""evaluate EXPERIMENT: test accuracy of the paper's network trained on the distilled set, by each protocol."""

import jax

from rcig import evaluate, nets, rows, train
from stages.common import RESULTS, run
from stages.inputs import Inputs, load_inputs


def main(name: str) -> None:
    inputs = load_inputs(name)
    settings = inputs.experiment.evaluate
    found = [row for protocol in settings.protocols for row in judge(inputs, protocol)]
    rows.save(RESULTS / "evaluate" / f"{name}.csv", name, found)


def judge(inputs: Inputs, protocol: str) -> list[rows.Row]:
    """Rows of one protocol, for every seed of the distilled set."""
    experiment, dataset = inputs.experiment, inputs.dataset
    settings = experiment.evaluate
    net = nets.build("conv", inputs.shape, dataset.classes, width=settings.width, depth=dataset.depth)
    schedule = evaluate.PROTOCOLS[protocol](experiment.images_per_class * dataset.classes)
    fit, outputs = train.trainer(net, schedule, settings.networks), train.tester(net)
    found = []
    for seed, (x, y) in inputs.supports():
        variables = fit(jax.random.key(seed), x, y)
        values = train.accuracy(outputs(variables, inputs.test_images), inputs.test_labels)
        found += rows.of_networks(
            experiment,
            values,
            protocol=protocol,
            architecture="conv",
            width=settings.width,
            seed=seed,
            metric="accuracy",
        )
    return found


if __name__ == "__main__":
    run(main)
