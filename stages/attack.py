"""attack EXPERIMENT: membership inference against networks trained on real members, a real subset, the distilled set.

Members are the training images that the distiller saw, 10,000 of them at most (Loo et al. 2023, appendix B);
non-members are the test split.
"""

import jax
import numpy as np

from rcig import attacks, nets, params, rows, train
from rcig.data import splits
from stages.common import RESULTS, run
from stages.inputs import Inputs, load_inputs
from stages.real import load_split

MAX_MEMBERS = 10_000


def main(name: str) -> None:
    inputs = load_inputs(name)
    found = [row for trained_on in inputs.experiment.attack.trained_on for row in judge(inputs, trained_on)]
    rows.save(RESULTS / "attack" / f"{name}.csv", name, found)


def judge(inputs: Inputs, trained_on: str) -> list[rows.Row]:
    """Rows of the attacks on networks trained on one kind of set, for every seed of the distilled set."""
    settings = inputs.experiment.attack
    net = nets.build("conv", inputs.shape, inputs.dataset.classes, width=settings.width, depth=inputs.dataset.depth)
    optimizer = train.adam(settings.steps, settings.learning_rate, settings.steps // 10)
    schedule = train.Schedule(settings.steps, optimizer, settings.batch_size)
    fit, outputs = train.trainer(net, schedule, settings.networks), train.tester(net, inputs.whitened)
    found = []
    for seed, support in inputs.supports():
        members = load_members(inputs, seed)
        variables = fit(jax.random.key(seed), *training_set(inputs, trained_on, support, members, seed))
        logits = np.concatenate([outputs(variables, members), outputs(variables, inputs.test)], axis=1)
        labels = np.concatenate([members.labels, inputs.test.labels])
        measured = [measure(one, labels, len(members.labels), settings, seed) for one in logits]
        where = {"protocol": f"membership_inference/{trained_on}", "architecture": "conv", "width": settings.width}
        for metric in measured[0]:
            values = [of_network[metric] for of_network in measured]
            found += rows.of_networks(inputs.experiment, values, **where, seed=seed, metric=metric)
    return found


def measure(
    logits: np.ndarray, labels: np.ndarray, members: int, settings: params.AttackParams, seed: int
) -> dict[str, float]:
    """Every attack's figures for one network's logits, members first, and its accuracy on the non-members."""
    targets = np.eye(logits.shape[1], dtype=logits.dtype)[labels] - 1 / logits.shape[1]
    loss = ((logits - targets) ** 2).mean(1)
    is_member = np.arange(len(labels)) < members
    accuracy = float(train.accuracy(logits[members:], labels[members:]))
    return {"accuracy": accuracy} | attacks.attack_all(logits, loss, is_member, settings.folds, seed)


def load_members(inputs: Inputs, seed: int) -> splits.View:
    """Raw images and labels of the members."""
    split, _ = load_split(inputs.experiment.dataset, "train")
    seen = np.flatnonzero(~splits.held_out_mask(split.labels, inputs.dataset.held_out))
    if len(seen) > MAX_MEMBERS:
        seen = np.random.default_rng(seed).choice(seen, MAX_MEMBERS, replace=False)
    return splits.View(split, seen)


def training_set(
    inputs: Inputs, trained_on: str, support: tuple[jax.Array, jax.Array], members: splits.View, seed: int
) -> tuple[jax.Array, jax.Array]:
    """Images and labels (n, C) to train the attacked networks on."""
    if trained_on == "distilled":
        return support
    classes = inputs.dataset.classes
    chosen = np.arange(len(members.labels))
    if trained_on == "real_subset":
        chosen = splits.sample_per_class(members.labels, inputs.experiment.images_per_class, classes, seed)
    images, labels = members.take(chosen)
    return inputs.whitened(images), jax.nn.one_hot(labels, classes) - 1 / classes


if __name__ == "__main__":
    run(main)
