"""attack EXPERIMENT: membership inference against networks trained on real members, a real subset, the distilled set.

Members are the training images that the distiller saw, 10,000 of them at most (Loo et al. 2023, appendix B, where a
chunk of so many is distilled); non-members are the test split.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import numpy as np

from rcig import attacks, nets, rows, train
from rcig.data.splits import Split, View, chunk, sample_per_class, whole
from rcig.nets import Variables
from stages.common import RESULTS, run
from stages.inputs import Inputs, load_inputs
from stages.real import load_parts, visible

MAX_MEMBERS = 10_000
WARMUP = 500
"""steps, as in the paper's evaluation, but a tenth of all at most"""


Support = tuple[jax.Array, jax.Array]
"""whitened images and labels (n, C) to train networks on"""


class Tools(NamedTuple):
    """How networks are trained and looked at; compiled once for all seeds."""

    course: Callable[..., Iterator[tuple[int, Variables]]]
    shadow: Callable[..., Variables]
    outputs: Callable[[Variables, View], np.ndarray]
    gradient_norms: Callable[[Variables, View], np.ndarray]


class Examples(NamedTuple):
    images: View
    is_member: np.ndarray
    """bool (n,)"""


def main(name: str) -> None:
    inputs = load_inputs(name)
    found = attack(inputs) if inputs.experiment.attack.trained_on else []
    rows.save(RESULTS / "attack" / f"{name}.csv", name, found)


def attack(inputs: Inputs) -> list[rows.Row]:
    """Rows of all attacks, for every seed of the distilled set."""
    tools = make_tools(inputs)
    seen, _, _ = load_parts(inputs.experiment.dataset, inputs.dataset)
    return [
        row
        for seed, distilled in inputs.supports()
        for row in judge(inputs, tools, load_examples(inputs, seen, seed), seed, distilled)
    ]


def make_tools(inputs: Inputs) -> Tools:
    settings = inputs.experiment.attack
    steps = settings.measured_at[-1]
    net = nets.build("conv", inputs.shape, inputs.dataset.classes, width=settings.width, depth=inputs.dataset.depth)
    optimizer = train.adam(steps, min(WARMUP, steps // 10))
    schedule = train.Schedule(steps, optimizer, settings.learning_rate, settings.batch_size)
    return Tools(
        train.course(net, schedule, settings.networks),
        train.trainer(net, schedule, 1),
        train.tester(net, inputs.whitened),
        attacks.gradient_norms(net, inputs.whitened),
    )


def judge(inputs: Inputs, tools: Tools, examples: Examples, seed: int, distilled: Support) -> list[rows.Row]:
    """Rows of the attacks of one seed: on networks trained on each kind of set, after each number of steps."""
    settings = inputs.experiment.attack
    shadows = cache(partial(shadow_margins, inputs, tools, examples.images, seed))
    found = []
    for trained_on in settings.trained_on:
        subset = trained_on != "real_members"
        chosen = distilled if trained_on == "distilled" else real_set(inputs, *examples, seed, subset)
        for step, variables in tools.course(jax.random.key(seed), *chosen, settings.measured_at):
            attacked = settings.attacks if step == settings.measured_at[-1] else settings.curve_attacks
            metrics = measure(tools, examples, variables, attacked, partial(shadows, subset), settings.folds, seed)
            for metric, values in metrics.items():
                where = {"protocol": f"membership_inference/{trained_on}", "seed": seed, "step": step}
                where |= {"architecture": "conv", "width": settings.width, "metric": metric}
                found += rows.of_networks(inputs.experiment, values, **where)
    return found


def measure(
    tools: Tools,
    examples: Examples,
    variables: Variables,
    attacked: Sequence[str],
    shadows: Callable[[], tuple[np.ndarray, np.ndarray]],
    folds: int,
    seed: int,
) -> dict[str, Any]:
    """Metric -> its values for all networks: accuracy on non-members, and every attack's figures."""
    images, is_member = examples
    labels, logits = images.labels, tools.outputs(variables, images)
    metrics: dict[str, Any] = {"accuracy": train.accuracy(logits[:, ~is_member], labels[~is_member])}
    for name in attacked:
        if name == "gradient_norm":
            scores = -tools.gradient_norms(variables, images)
        elif name == "likelihood_ratio":
            margins = attacks.margins(logits, labels)
            scores = np.stack([attacks.likelihood_ratio(one, *shadows()) for one in margins])
        else:
            targets = np.eye(logits.shape[-1], dtype=logits.dtype)[labels] - 1 / logits.shape[-1]
            losses = ((logits - targets) ** 2).mean(-1)
            networks = zip(logits, losses, strict=True)
            scores = np.stack([attacks.membership_scores(name, *one, is_member, folds, seed) for one in networks])
        figures = [attacks.measure(of_network, is_member) for of_network in scores]
        metrics |= {f"{metric}/{name}": [values[metric] for values in figures] for metric in figures[0]}
    return metrics


def load_examples(inputs: Inputs, seen: View, seed: int) -> Examples:
    """The members of that seed, of what distillers may see, then the non-members, in memory."""
    seen = visible(seen, inputs.experiment, seed)
    size = min(MAX_MEMBERS, len(seen.members))
    members = View(seen.split, chunk(seen.members, size, seed % (len(seen.members) // size)))
    parts = [view.take(np.arange(len(view.members))) for view in (members, inputs.test)]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Examples(whole(Split(images, labels)), np.arange(len(labels)) < size)


def real_set(inputs: Inputs, images: View, chosen: np.ndarray, seed: int, subset: bool) -> Support:
    """The real images that `chosen` (n,) marks: all of them, or a `subset` as large as the distilled set."""
    positions = np.flatnonzero(chosen)
    classes = inputs.dataset.classes
    if subset:
        count = inputs.experiment.images_per_class
        positions = positions[sample_per_class(images.labels[positions], count, classes, seed)]
    raw, labels = images.take(positions)
    return inputs.whitened(raw), jax.nn.one_hot(labels, classes) - 1 / classes


def shadow_margins(
    inputs: Inputs, tools: Tools, images: View, seed: int, subset: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Margins (k, n) of k shadow networks, and which examples (k, n) each drew its training set from.

    They are trained as the attacked ones are, on real images. To attack a distilled set this way in earnest, every
    shadow network would need a set distilled from its own half; a real subset of that half stands in for it.
    """
    inside = attacks.shadow_membership(inputs.experiment.attack.shadow_networks, len(images.members), seed)
    margins = []
    for i, half in enumerate(inside):
        key = jax.random.fold_in(jax.random.key(seed), 1 + i)
        variables = tools.shadow(key, *real_set(inputs, images, half, seed + 1 + i, subset))
        margins.append(attacks.margins(tools.outputs(variables, images), images.labels)[0])
    return np.stack(margins), inside


if __name__ == "__main__":
    run(main)
