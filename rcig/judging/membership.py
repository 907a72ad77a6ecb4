"""Membership inference against networks trained on real members, a real subset of them, and the distilled set.

Members are the training images that the distiller saw, MAX_MEMBERS of them at most (Loo et al. 2023, appendix B, where
a chunk of so many is distilled); non-members are the test split.
"""

import itertools
import math
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rcig import nets, passes, rows, train
from rcig.data.real import load_parts, visible
from rcig.data.settings import Dataset
from rcig.data.splits import Split, View, chunk, sample_per_class, whole
from rcig.errors import ParamsError
from rcig.fields import NOT_NEGATIVE, POSITIVE
from rcig.judging import attacks
from rcig.judging.subject import Judged, Subject
from rcig.nets import Variables
from rcig.resources import Use, check, progress, size

MAX_MEMBERS = 10_000
WARMUP = 500
"""steps, as in the paper's evaluation, but a tenth of all at most"""

AttackName = Literal[
    "threshold", "logistic_regression", "mlp", "random_forest", "knn", "gradient_norm", "likelihood_ratio"
]
"""see rcig.judging.attacks"""

Support = tuple[jax.Array, jax.Array]
"""whitened images and labels (n, C) to train networks on"""


@dataclass(frozen=True)
class Attack:
    """Membership inference, by default at the sizes of the paper (its appendix B)."""

    trained_on: tuple[Literal["real_members", "real_subset", "distilled"], ...] = (
        "real_members",
        "real_subset",
        "distilled",
    )
    """what the attacked networks are trained on: all members, a random part of them as large as the set, the set"""
    width: Annotated[int, POSITIVE] = 128
    """of the attacked networks"""
    networks: Annotated[int, POSITIVE] = 5
    """that are attacked, for every seed and each of trained_on"""
    measured_at: tuple[int, ...] = (125, 250, 500, 1000, 2000, 4000, 8000, 16000)
    """training steps after which the networks are tested and attacked; they are trained until the last"""
    batch_size: Annotated[int, POSITIVE] = 256
    """images per training step"""
    learning_rate: Annotated[float, POSITIVE] = 1e-4
    """of Adam, after a warm-up"""
    attacks: tuple[AttackName, ...] = typing.get_args(AttackName)
    """after the last step"""
    curve_attacks: tuple[AttackName, ...] = ("threshold", "mlp")
    """after the others"""
    folds: int = 5
    """of the cross-validation that gives every example an out-of-fold score"""
    shadow_networks: Annotated[int, NOT_NEGATIVE] = 16
    """of likelihood_ratio"""

    def __post_init__(self) -> None:
        if not self.trained_on:
            raise ParamsError("expected at least one of trained_on, got none")
        if self.folds < 2:
            raise ParamsError(f"expected folds to be at least 2, got {self.folds}")
        if any(late <= early for early, late in itertools.pairwise([0, *self.measured_at])) or not self.measured_at:
            raise ParamsError(f"expected measured_at to be increasing numbers of steps, got {list(self.measured_at)}")
        if "likelihood_ratio" in self.curve_attacks:
            raise ParamsError(
                "curve_attacks: likelihood_ratio needs shadow networks of the same number of steps,"
                " which are trained for the last of measured_at only; name it in attacks"
            )
        if "likelihood_ratio" in self.attacks and (self.shadow_networks < 4 or self.shadow_networks % 2):
            raise ParamsError(f"likelihood_ratio needs 4, 6, 8, … shadow_networks, got {self.shadow_networks}")


@dataclass(frozen=True)
class Entry:
    """What the stage reads of plan.json."""

    dataset: Dataset
    judged: Judged
    attack: Attack


class Tools(NamedTuple):
    """How networks are trained and looked at; compiled once for all seeds."""

    course: train.Course
    shadow: Callable[..., Variables]
    outputs: train.Tester
    gradient_norms: attacks.GradientNorms


class Examples(NamedTuple):
    images: View
    is_member: np.ndarray
    """bool (n,)"""


def attack(subject: Subject, settings: Attack) -> list[rows.Row]:
    """Rows of all attacks, for every seed of the distilled set. Raises TooLargeError where memory is too small."""
    tools = make_tools(subject, settings)
    seen, _, _ = load_parts(subject.judged.dataset, subject.dataset)
    found = []
    title = f"membership inference, {settings.networks} networks conv of width {settings.width}"
    memory = check(title, "width, networks or batch_size", *uses(subject, settings, tools, seen))
    steps = settings.measured_at[-1] * len(settings.trained_on)
    rest = "the attacks with their shadow networks" if "likelihood_ratio" in settings.attacks else "the attacks"
    with progress(title, steps * len(subject.judged.seeds), rest, memory) as reached:
        for i, (seed, distilled) in enumerate(subject.supports()):
            examples = load_examples(subject, seen, seed)
            more = lambda done, before=i * steps: reached(before + done)  # noqa: E731
            found += attack_networks(subject, settings, tools, examples, seed, distilled, more)
    return found


def uses(subject: Subject, settings: Attack, tools: Tools, seen: View) -> list[Use]:
    """What is in memory when networks are trained on each kind of set, and when they are attacked."""
    shape, classes = subject.dataset.shape, subject.dataset.classes
    members = min(MAX_MEMBERS, len(visible(seen, subject.meta["chunk"], subject.judged.seeds[0]).members))
    # Raw examples, twice while members and others are put together.
    raw = 2 * (members + len(subject.test.members)) * math.prod(shape)

    def real(count: int) -> Any:
        return passes.shapes(lambda: (jnp.zeros((count, *shape)), jnp.zeros((count, classes))))

    kinds = {"real_members": real(members), "real_subset": real(subject.judged.images_per_class * classes)}
    sets = [(kinds | {"distilled": subject.shapes()})[name] for name in settings.trained_on]
    looks = [tools.outputs.lowered(tools.course.variables, shape)]
    if "gradient_norm" in (*settings.attacks, *settings.curve_attacks):
        looks.append(tools.gradient_norms.lowered(tools.course.variables, shape))
    trained = [Use(raw, program) for one in sets for program in tools.course.lowered(*one)]
    return trained + [Use(raw + max(map(size, sets)), program) for program in looks]


def make_tools(subject: Subject, settings: Attack) -> Tools:
    steps, dataset = settings.measured_at[-1], subject.dataset
    net = nets.build("conv", dataset.shape, dataset.classes, width=settings.width, depth=dataset.depth)
    optimizer = train.adam(min(WARMUP / steps, 0.1))
    schedule = train.Schedule(steps, optimizer, settings.learning_rate, settings.batch_size)
    return Tools(
        train.course(net, schedule, settings.networks),
        train.trainer(net, schedule, 1),
        train.tester(net, subject.whitened),
        attacks.gradient_norms(net, subject.whitened),
    )


def attack_networks(
    subject: Subject,
    settings: Attack,
    tools: Tools,
    examples: Examples,
    seed: int,
    distilled: Support,
    reached: Callable[[int], None],
) -> list[rows.Row]:
    """Rows of the attacks of one seed: on networks trained on each kind of set, after each number of steps.

    `reached` is told how many training steps are done.
    """
    shadows = cache(partial(shadow_margins, subject, settings.shadow_networks, tools, examples.images, seed))
    found = []
    for i, trained_on in enumerate(settings.trained_on):
        subset = trained_on != "real_members"
        chosen = distilled if trained_on == "distilled" else real_set(subject, *examples, seed, subset)
        for step, variables in tools.course(jax.random.key(seed), *chosen, settings.measured_at):
            jax.block_until_ready(variables)
            reached(i * settings.measured_at[-1] + step)
            attacked = settings.attacks if step == settings.measured_at[-1] else settings.curve_attacks
            metrics = measure(tools, examples, variables, attacked, partial(shadows, subset), settings.folds, seed)
            for metric, values in metrics.items():
                where = {"protocol": f"membership_inference/{trained_on}", "seed": seed, "step": step}
                where |= {"architecture": "conv", "width": settings.width, "metric": metric}
                found += rows.by_network(values, **subject.where, **where)
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


def load_examples(subject: Subject, seen: View, seed: int) -> Examples:
    """The members of that seed, of what distillers may see, then the non-members, in memory."""
    seen = visible(seen, subject.meta["chunk"], seed)
    size = min(MAX_MEMBERS, len(seen.members))
    members = View(seen.split, chunk(seen.members, size, seed % (len(seen.members) // size)))
    parts = [view.take(np.arange(len(view.members))) for view in (members, subject.test)]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Examples(whole(Split(images, labels)), np.arange(len(labels)) < size)


def real_set(subject: Subject, images: View, chosen: np.ndarray, seed: int, subset: bool) -> Support:
    """The real images that `chosen` (n,) marks: all of them, or a `subset` as large as the distilled set."""
    positions = np.flatnonzero(chosen)
    classes = subject.dataset.classes
    if subset:
        count = subject.judged.images_per_class
        positions = positions[sample_per_class(images.labels[positions], count, classes, seed)]
    raw, labels = images.take(positions)
    return subject.whitened(raw), jax.nn.one_hot(labels, classes) - 1 / classes


def shadow_margins(
    subject: Subject, count: int, tools: Tools, images: View, seed: int, subset: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Margins (k, n) of `count` shadow networks, and which examples (k, n) each drew its training set from.

    They are trained as the attacked ones are, on real images. To attack a distilled set this way in earnest, every
    shadow network would need a set distilled from its own half; a real subset of that half stands in for it.
    """
    inside = attacks.shadow_membership(count, len(images.members), seed)
    margins = []
    for i, half in enumerate(inside):
        key = jax.random.fold_in(jax.random.key(seed), 1 + i)
        variables = tools.shadow(key, *real_set(subject, images, half, seed + 1 + i, subset))
        margins.append(attacks.margins(tools.outputs(variables, images), images.labels)[0])
    return np.stack(margins), inside
