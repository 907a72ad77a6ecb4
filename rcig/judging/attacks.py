"""Membership inference: telling a classifier's training examples from others.

A higher score claims membership. Three kinds of attack score examples: by logits and loss, learning from examples of
known membership, so each example is scored by a model fitted without it (`membership_scores`); by the size of their
gradients (`gradient_norms`); and by comparison with networks trained with and without them (`likelihood_ratio`).
`measure` says how well scores of any kind tell members from others.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtri

from rcig import passes, train
from rcig.data.splits import View
from rcig.errors import ParamsError
from rcig.nets import Net, Variables

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]

_NEIGHBOURS = 50
_MANY_SHADOWS = 64


# scikit-learn and scipy.stats take a second to import, which those do not wait for who only read settings.
def _logistic_regression(seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=1000, random_state=seed)


def _mlp(seed: int) -> Any:
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier((32,), learning_rate_init=0.01, max_iter=500, early_stopping=True, random_state=seed)


def _random_forest(seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(100, max_depth=6, max_samples=0.25, n_jobs=1, random_state=seed)


def _knn(seed: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(_NEIGHBOURS, weights="distance", algorithm="brute")


ATTACKS: dict[str, Callable[[int], Any] | None] = {
    "threshold": None,
    "logistic_regression": _logistic_regression,
    "mlp": _mlp,
    "random_forest": _random_forest,
    "knn": _knn,
}
"""Name -> seed -> classifier of standardised (logits, loss); None where nothing is fitted and the score is −loss.

Logistic regression has an L2 penalty of 1. The MLP has one hidden layer of 32 units, an L2 penalty of 1e-4 and is
trained by Adam at 0.01 until accuracy on a tenth of its data, held out, has not improved for 10 epochs. The forest has
100 trees of depth 6, each grown on a draw of a quarter of the data. The 50 nearest neighbours are weighted by inverse
distance. The rest is as in scikit-learn.

Every grid of hyperparameters has this one point: nothing is searched. TensorFlow Privacy fits the same four kinds to
raw features, with hyperparameters from grids of 3 to 36 points, chosen by 3-fold cross-validation.

20,000 examples of 10 classes in 5 folds take one core 0, 0.1, 2.5, 4.5 and 1.2 seconds.
"""


def membership_scores(attack: str, logits: Floats, loss: Floats, member: Flags, folds: int, seed: int) -> Floats:
    """Out-of-fold membership scores (n,) from logits (n, C), loss (n,) and the truth member (n,).

    The split into folds depends on `member` and `seed` only, so all attacks share it. Each model is fitted on as many
    members as non-members, as in TensorFlow Privacy: the majority would rule models that cannot weigh examples, and a
    share that varied between folds would shift their scores against each other.

    Out-of-fold scores of a fitted attack are not independent, as each example helps to score the others: where nothing
    leaks, the 95 % interval of `auc_interval` held 0.5 in about 85 % of simulated data sets for logistic regression and
    neighbours. Judge a small leak by its spread over independently drawn members and networks.

    Raises ParamsError for an unknown attack, for arrays that do not fit together or are not finite, and for fewer
    members or non-members than folds or neighbours (50).
    """
    if attack not in ATTACKS:
        raise ParamsError(f"Unknown attack {attack!r}: expected one of {', '.join(ATTACKS)}")
    _check_examples(logits, loss, member, folds)
    make_classifier = ATTACKS[attack]
    if make_classifier is None:
        return -np.asarray(loss, np.float64)
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features = np.column_stack([logits, loss]).astype(np.float64)
    rng = np.random.default_rng(seed)
    scores = np.empty(len(features))
    for rest, test in StratifiedKFold(folds, shuffle=True, random_state=seed).split(features, member):
        fitted = _balanced(rest, member, rng)
        model = make_pipeline(StandardScaler(), make_classifier(seed)).fit(features[fitted], member[fitted])
        scores[test] = model.predict_proba(features[test])[:, 1]
    return scores


class GradientNorms(NamedTuple):
    """(variables of k networks, n raw images) -> L2 norms (k, n) of every image's gradient. Compiled once."""

    of_batch: jax.stages.Wrapped
    """(variables, whitened images, labels) -> norms"""
    transform: Callable[[np.ndarray], jax.Array]

    def __call__(self, variables: Variables, images: View) -> Floats:
        batch = lambda some: self.of_batch(variables, self.transform(some.images), some.labels)  # noqa: E731
        return train.in_batches(batch, images)

    def lowered(self, variables: Variables, shape: tuple[int, ...]) -> jax.stages.Lowered:
        """The program for such networks and images (h, w, c), for the compiler."""
        some = passes.shapes(lambda: (jnp.zeros((train.TEST_BATCH, *shape)), jnp.zeros(train.TEST_BATCH, jnp.int32)))
        return self.of_batch.lower(variables, *some)


def gradient_norms(net: Net, transform: Callable[[np.ndarray], jax.Array]) -> GradientNorms:
    """How large the gradients of such networks are.

    The gradient is that of `train.mse` on the one image with its centred one-hot label, with respect to all parameters,
    with the running statistics of batch norm. Training makes it small on members, so the score is −norm (Nasr et al.
    2019 attack with gradients). `transform` makes the network's input of raw images: their whitening.

    20,000 images of 28×28×1 take one core about 9 seconds for a conv network of width 16 and depth 3.
    """

    def norm(variables: Variables, image: jax.Array, label: jax.Array) -> jax.Array:
        def loss(params: Any) -> jax.Array:
            logits = net.apply(variables | {"params": params}, image[None])
            classes = logits.shape[-1]
            return train.mse(logits, jax.nn.one_hot(label[None], classes, dtype=logits.dtype) - 1 / classes)

        return optax.tree.norm(jax.grad(loss)(variables["params"]))

    # One network after the other: for each there are as many gradients in memory at once as images in a pass.
    @jax.jit
    def of_batch(variables: Variables, images: jax.Array, labels: jax.Array) -> jax.Array:
        def of_network(one: Variables) -> jax.Array:
            return passes.map_images(lambda some: jax.vmap(partial(norm, one))(*some), (images, labels))

        return jax.lax.map(of_network, variables)

    return GradientNorms(of_batch, transform)


def margins(logits: Floats, labels: NDArray[np.integer]) -> Floats:
    """The logit of the label minus the largest other one: logits (…, n, C), labels (n,) -> (…, n) in float64.

    What `likelihood_ratio` compares. Carlini et al. (2022) take log(p / (1 − p)) of the label's probability p instead,
    which is nearly Gaussian. The logits of networks trained on squared loss are no log-probabilities, so they have no
    such p; the margin needs none (TensorFlow Privacy's LiRA offers it as `hinge`).

    Raises ParamsError for shapes that do not fit, fewer than two classes, labels of none of them and non-finite logits.
    """
    if logits.ndim < 2 or labels.shape != logits.shape[-2:-1] or logits.shape[-1] < 2:
        raise ParamsError(
            f"Expected logits (…, n, C) with C ≥ 2 and labels (n,), got {logits.shape} and {labels.shape}: "
            "one label for each example"
        )
    classes = logits.shape[-1]
    outside = np.count_nonzero((labels < 0) | (labels >= classes))
    if outside:
        raise ParamsError(f"Expected labels from 0 to {classes - 1}, got {outside} others: number the classes from 0")
    _check_finite("logits", logits)
    is_label = np.eye(classes, dtype=bool)[labels]
    own, others = (np.where(chosen, logits, -np.inf).max(-1) for chosen in (is_label, ~is_label))
    return own.astype(np.float64) - others


def shadow_membership(k: int, n: int, seed: int) -> Flags:
    """Which of n examples each of k shadow networks is to be trained on -> (k, n).

    Networks 2i and 2i+1 get complementary random halves, so every example is in exactly half of the networks, and every
    network has half of the examples (of an odd number, one more or less). To attack one of them with the others, leave
    its complement out too: otherwise how many of the others have an example would betray whether it has.

    Raises ParamsError for a k that is not positive and even, and for fewer than two examples.
    """
    if k < 2 or k % 2 or n < 2:
        raise ParamsError(
            f"Expected an even number k of networks and two or more examples, got k={k}, n={n}: halves come in pairs"
        )
    rng = np.random.default_rng(seed)
    first = np.array([rng.permutation(n) < n // 2 for _ in range(k // 2)])
    return np.stack([first, ~first], axis=1).reshape(k, n)


def likelihood_ratio(margins: Floats, shadow_margins: Floats, inside: Flags) -> Floats:
    """LiRA: how much likelier a network's margins are if it was trained on the example -> log ratios (n,).

    The online attack of Carlini et al. (2022). `margins` (n,) are the attacked network's, `shadow_margins` (k, n) those
    of k networks trained alike, `inside` (k, n) says which examples each of these was trained on. For every example one
    Gaussian is fitted to the margins of the shadow networks trained on it and one to those of the others. Each has the
    example's mean. With fewer than 64 shadow networks, the number that Carlini et al. give, the variance is pooled over
    all examples, separately for the two kinds; from there on it is the example's own.

    The attacked network's members must be drawn independently of `inside`; see `shadow_membership`.

    Raises ParamsError for shapes that do not fit, non-finite margins, fewer than two shadow networks trained with or
    without some example, and shadow networks that agree exactly.
    """
    _check_shadows(margins, shadow_margins, inside)
    return _log_density(margins, shadow_margins, inside) - _log_density(margins, shadow_margins, ~inside)


def measure(scores: Floats, member: Flags) -> dict[str, float]:
    """Metric -> value: how well scores (n,) tell members from others.

    `auc`; `advantage`; `tpr_at_1_percent_fpr` and `tpr_at_0.1_percent_fpr` (see `tpr_at_fpr`). The AUC and the rates
    have 95 % intervals, whose ends are named …_low and …_high; see `auc_interval` and `tpr_interval` for what they
    take as given, and `membership_scores` for why they are too short for fitted attacks.

    Raises ParamsError unless scores are finite and there are two or more of each kind.
    """
    low, high = auc_interval(scores, member)
    metrics = {"auc": auc(scores, member), "auc_low": low, "auc_high": high, "advantage": advantage(scores, member)}
    for percent, fpr in {"1": 0.01, "0.1": 0.001}.items():
        name = f"tpr_at_{percent}_percent_fpr"
        metrics[name] = tpr_at_fpr(scores, member, fpr)
        metrics[f"{name}_low"], metrics[f"{name}_high"] = tpr_interval(scores, member, fpr)
    return metrics


def auc(scores: Floats, member: Flags) -> float:
    """Area under the ROC curve: how often a member outscores a non-member, ties counting half (Mann-Whitney).

    Raises ParamsError unless scores (n,) are finite and member (n,) has both kinds.
    """
    inside, outside = _split(scores, member)
    return float(_wins(inside, outside).sum() / (len(inside) * len(outside)))


def auc_interval(scores: Floats, member: Flags, level: float = 0.95) -> tuple[float, float]:
    """Confidence interval of `auc` over the drawing of members and non-members; attack and target stay as given.

    The variance is that of DeLong et al. (1988), computed from ranks (Sun & Xu 2014); the interval is symmetric on the
    logit scale, which keeps it within [0, 1] (Pepe 2003). That variance vanishes at 0 and 1, so the interval also holds
    every AUC that min(members, non-members) disjoint pairs could not exclude if all were ordered alike (Clopper &
    Pearson 1934); for 1000 pairs this matters above 0.996 and below 0.004 only.

    Raises ParamsError as `auc` does, for fewer than two of a kind, and for a level not between 0 and 1.
    """
    _check_level(level)
    inside, outside = _split(scores, member)
    pairs = min(len(inside), len(outside))
    if pairs < 2:
        raise ParamsError(
            f"Expected two or more of each kind, got {len(inside)} members and {len(outside)} non-members: "
            "a variance needs two examples"
        )
    low = high = center = auc(scores, member)
    if 0 < center < 1:
        variance = _variance_of_mean(_wins(inside, outside) / len(outside))
        variance += _variance_of_mean(_wins(outside, inside) / len(inside))
        half_width = ndtri((1 + level) / 2) * np.sqrt(variance) / (center * (1 - center))
        low, high = expit(logit(center) - half_width), expit(logit(center) + half_width)
    unexcluded = ((1 - level) / 2) ** (1 / pairs)
    return float(min(low, unexcluded)), float(max(high, 1 - unexcluded))


def advantage(scores: Floats, member: Flags) -> float:
    """The largest true positive rate minus false positive rate of any threshold (Yeom et al. 2018), in [0, 1].

    It is taken at the best threshold for these very examples, so it is positive by luck alone: where nothing leaks, it
    is about √(π/8 · (1/members + 1/non-members)) on average, 0.009 for 10,000 of each.

    Raises ParamsError as `auc` does.
    """
    inside, outside = (np.sort(kind) for kind in _split(scores, member))
    missed, rejected = (np.searchsorted(kind, scores) / len(kind) for kind in (inside, outside))
    return float(np.max(rejected - missed))


def tpr_at_fpr(scores: Floats, member: Flags, fpr: float) -> float:
    """The largest true positive rate of any threshold whose false positive rate is at most `fpr`.

    Equal scores fall on the same side of every threshold, and rates are not interpolated between thresholds. With fewer
    than 1/fpr non-members no false positive is allowed: the rate is then the share of members above all of them.

    Raises ParamsError as `auc` does, and for an fpr outside [0, 1].
    """
    return float(np.mean(_found(scores, member, fpr)))


def tpr_interval(scores: Floats, member: Flags, fpr: float, level: float = 0.95) -> tuple[float, float]:
    """Confidence interval of the share of all members beyond the threshold of `tpr_at_fpr` (Clopper & Pearson 1934).

    The threshold is taken as given. It depends on the non-members alone, so the interval is exact for it (or too long);
    that its own false positive rate, measured on few non-members, may be above or below `fpr` is not in the interval.

    Raises ParamsError as `tpr_at_fpr` does, and for a level not between 0 and 1.
    """
    _check_level(level)
    found = _found(scores, member, fpr)
    from scipy.stats import binomtest

    interval = binomtest(np.count_nonzero(found), len(found)).proportion_ci(level)
    return float(interval.low), float(interval.high)


def _found(scores: Floats, member: Flags, fpr: float) -> Flags:
    """Which members the lowest threshold with a false positive rate of at most `fpr` finds."""
    if not 0 <= fpr <= 1:
        raise ParamsError(f"Expected fpr={fpr} to lie in [0, 1]: write 1 % as 0.01")
    inside, outside = _split(scores, member)
    # Not floor(fpr · n): 0.29 · 100 rounds to just below 29.
    allowed = np.count_nonzero(np.arange(1, len(outside) + 1) / len(outside) <= fpr)
    if allowed == len(outside):
        return np.ones(len(inside), bool)
    first_refused = np.sort(outside)[::-1][allowed]
    return inside > first_refused


def _log_density(margins: Floats, shadow_margins: Floats, chosen: Flags) -> Floats:
    """Of margins (n,), up to a constant, under Gaussians fitted to the chosen shadow margins (k, n) -> (n,)."""
    mean = shadow_margins.mean(0, where=chosen, dtype=np.float64)
    variance = shadow_margins.var(0, where=chosen, dtype=np.float64, ddof=1)
    if len(chosen) < _MANY_SHADOWS:
        variance = np.average(variance, weights=chosen.sum(0) - 1, keepdims=True)
    if not variance.all():
        raise ParamsError(
            "Expected shadow networks that differ, got margins without any variance: train each from its own start"
        )
    return -((margins - mean) ** 2 / variance + np.log(variance)) / 2


def _wins(ours: Floats, theirs: Floats) -> Floats:
    """For each of ours (m,), how many of theirs (n,) it exceeds, ties counting half -> (m,)."""
    from scipy.stats import rankdata

    wins: Floats = rankdata(np.concatenate([ours, theirs]))[: len(ours)] - rankdata(ours)
    return wins


def _variance_of_mean(values: Floats) -> float:
    return float(np.var(values, ddof=1) / len(values))


def _balanced(index: NDArray[np.intp], member: Flags, rng: np.random.Generator) -> NDArray[np.intp]:
    """All of `index` that is of the rarer kind and as many of the other, drawn without replacement."""
    kinds = index[member[index]], index[~member[index]]
    size = min(map(len, kinds))
    return np.concatenate([rng.choice(kind, size, replace=False) for kind in kinds])


def _split(scores: Floats, member: Flags) -> tuple[Floats, Floats]:
    """The scores of members and of non-members."""
    _check_member(member, scores.shape)
    _check_finite("scores", scores)
    return scores[member], scores[~member]


def _check_examples(logits: Floats, loss: Floats, member: Flags, folds: int) -> None:
    if logits.ndim != 2 or loss.shape != logits.shape[:1]:
        raise ParamsError(
            f"Expected logits (n, C) and loss (n,), got {logits.shape} and {loss.shape}: do not average the loss"
        )
    _check_member(member, loss.shape)
    _check_finite("logits", logits)
    _check_finite("loss", loss)
    members, others, fewest = np.count_nonzero(member), np.count_nonzero(~member), max(folds, _NEIGHBOURS)
    if min(members, others) < fewest:
        raise ParamsError(
            f"Expected at least {fewest} members and non-members for {folds} folds and {_NEIGHBOURS} neighbours, "
            f"got {members} and {others}: attack more examples or use fewer folds"
        )


def _check_shadows(margins: Floats, shadow_margins: Floats, inside: Flags) -> None:
    if margins.ndim != 1 or shadow_margins.shape != inside.shape or shadow_margins.shape[1:] != margins.shape:
        raise ParamsError(
            f"Expected margins (n,), shadow_margins (k, n) and inside (k, n), got {margins.shape}, "
            f"{shadow_margins.shape} and {inside.shape}: score one network's examples, in the shadow networks' order"
        )
    if inside.dtype != bool:
        raise ParamsError(f"Expected inside to be bool, got {inside.dtype}: flag the examples that each was trained on")
    _check_finite("margins", margins)
    _check_finite("shadow_margins", shadow_margins)
    count = inside.sum(0)
    rare = np.count_nonzero(np.minimum(count, len(inside) - count) < 2)
    if rare:
        raise ParamsError(
            f"Expected two or more shadow networks with and without every example, got fewer for {rare} of "
            f"{len(margins)} examples: train more shadow networks, or on balanced halves (shadow_membership)"
        )


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ParamsError(f"Expected level={level} to be between 0 and 1: write 95 % as 0.95")


def _check_member(member: Flags, shape: tuple[int, ...]) -> None:
    if member.dtype != bool or member.shape != shape:
        raise ParamsError(f"Expected member to be bool {shape}, got {member.dtype} {member.shape}: flag every example")
    if member.all() or not member.any():
        kind = "non-members" if member.any() else "members"
        raise ParamsError(f"Expected members and non-members, got no {kind} among {member.size} examples: mix the two")


def _check_finite(name: str, values: Floats) -> None:
    bad = np.count_nonzero(~np.isfinite(values))
    if bad:
        raise ParamsError(
            f"Expected finite {name}, got {bad} of {values.size} NaN or infinite: check that training did not diverge"
        )
