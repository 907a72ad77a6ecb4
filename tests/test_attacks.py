"""Attacks against naive loops, closed forms, scikit-learn and simulated leaks."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.polynomial.hermite_e import hermegauss
from scipy.special import logit
from scipy.stats import binom, norm
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.preprocessing import FunctionTransformer

from rcig import train
from rcig.data.splits import Split, View, whole
from rcig.judging.attacks import (
    ATTACKS,
    Flags,
    Floats,
    advantage,
    auc,
    auc_interval,
    gradient_norms,
    likelihood_ratio,
    margins,
    measure,
    membership_scores,
    shadow_membership,
    tpr_at_fpr,
    tpr_interval,
)
from rcig.nets import Net, Variables, build

FITTED = [name for name in ATTACKS if name != "threshold"]
CLASSES = 3


def flags(members: int, others: int) -> Flags:
    return np.arange(members + others) < members


def noise(members: int, others: int, classes: int = CLASSES) -> tuple[Floats, Floats, Flags]:
    """Logits and loss that know nothing of membership."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(members + others, classes)), rng.normal(size=members + others), flags(members, others)


def outcomes(scores: Floats, member: Flags) -> Floats:
    """For every pair (member, non-member): 1 if the member scores higher, ½ for a tie, else 0."""
    return np.heaviside(scores[member][:, None] - scores[~member], 0.5)


def chance(members: int, others: int) -> Any:
    """An AUC of 0.5 ± 5 standard deviations of untied scores independent of membership (Mann & Whitney 1947).

    Out-of-fold scores deviate up to 1.4 times as much, since each example helps to score the others.
    """
    return pytest.approx(0.5, abs=5 * np.sqrt((members + others + 1) / (12 * members * others)))


@pytest.mark.parametrize("values", [2, 5, 1000], ids="of {} values".format)
@pytest.mark.parametrize(("members", "others"), [(1, 1), (1, 7), (30, 20)])
def test_auc_counts_pairs(values: int, members: int, others: int) -> None:
    scores = np.random.default_rng(values).integers(values, size=members + others).astype(float)
    member = flags(members, others)
    assert auc(scores, member) == pytest.approx(outcomes(scores, member).mean(), rel=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_auc_of_two_gaussians(shift: float) -> None:
    size = 20_000
    member = flags(size, size)
    expected = norm.cdf(shift / np.sqrt(2))
    # No AUC varies more than the share of `size` disjoint pairs in which the member scores higher.
    deviation = np.sqrt(expected * (1 - expected) / size)
    scores = np.random.default_rng(0).normal(size=2 * size) + shift * member
    assert auc(scores, member) == pytest.approx(expected, abs=4 * deviation)


@pytest.mark.parametrize("values", [4, 1000], ids="of {} values".format)
def test_interval_is_delong_on_the_logit_scale(values: int) -> None:
    member = flags(40, 25)
    scores = np.random.default_rng(0).integers(values, size=65) + 0.2 * values * member
    pairs = outcomes(scores, member)
    variance = np.var(pairs.mean(axis=1), ddof=1) / 40 + np.var(pairs.mean(axis=0), ddof=1) / 25
    half_width = norm.ppf(0.95) * np.sqrt(variance) / (pairs.mean() * (1 - pairs.mean()))
    expected = logit(pairs.mean()) + np.array([-half_width, half_width])
    np.testing.assert_allclose(logit(auc_interval(scores, member, level=0.9)), expected, rtol=1e-9)


def coverage(scores: Floats, member: Flags, expected: float) -> float:
    """How often the 95 % interval of each row of scores (repeats, n) holds the expected AUC."""
    intervals = np.array([auc_interval(row, member) for row in scores])
    return float(np.mean((intervals[:, 0] <= expected) & (expected <= intervals[:, 1])))


REPEATS = 1000
COVERAGE_TOLERANCE = 4 * np.sqrt(0.95 * 0.05 / REPEATS)


@pytest.mark.parametrize("shift", [0.0, 1.0, 1.5])
def test_interval_covers_the_auc_of_gaussians(shift: float) -> None:
    member = flags(200, 150)
    scores = np.random.default_rng(0).normal(size=(REPEATS, 350)) + shift * member
    covered = coverage(scores, member, norm.cdf(shift / np.sqrt(2)))
    assert covered == pytest.approx(0.95, abs=COVERAGE_TOLERANCE)


def test_interval_covers_the_auc_of_tied_scores() -> None:
    member = flags(200, 150)
    scores = np.random.default_rng(0).binomial(3, np.where(member, 0.6, 0.4), size=(REPEATS, 350)).astype(float)
    ours, theirs = binom.pmf(np.arange(4), 3, 0.6), binom.pmf(np.arange(4), 3, 0.4)
    expected = ours @ (np.tri(4, k=-1) + 0.5 * np.eye(4)) @ theirs
    assert coverage(scores, member, expected) == pytest.approx(0.95, abs=COVERAGE_TOLERANCE)


@pytest.mark.parametrize("shift", [2.0, 3.0, 4.0])
def test_interval_of_few_examples_is_not_too_short_near_one(shift: float) -> None:
    member = flags(20, 20)
    scores = np.random.default_rng(0).normal(size=(REPEATS, 40)) + shift * member
    assert coverage(scores, member, norm.cdf(shift / np.sqrt(2))) >= 0.95 - COVERAGE_TOLERANCE


def test_interval_of_a_perfect_attack_leaves_room_for_luck() -> None:
    scores, member = np.arange(30.0), ~flags(18, 12)
    low, high = auc_interval(scores, member)
    assert high == 1
    assert low**12 == pytest.approx(0.025)
    assert auc_interval(-scores, member) == pytest.approx((0, 1 - low))


def test_interval_of_reversed_scores_is_mirrored() -> None:
    _, scores, member = noise(40, 30)
    low, high = auc_interval(scores, member)
    assert 0 < low < auc(scores, member) < high < 1
    assert auc_interval(-scores, member) == pytest.approx((1 - high, 1 - low))


def largest_tpr(scores: Floats, member: Flags, fpr: float) -> float:
    thresholds = [*np.unique(scores), np.inf]
    allowed = [t for t in thresholds if np.mean(scores[~member] >= t) <= fpr]
    return max(float(np.mean(scores[member] >= t)) for t in allowed)


@pytest.mark.parametrize("values", [2, 6, 1000], ids="of {} values".format)
@pytest.mark.parametrize("others", [1, 20, 100])
def test_tpr_is_the_best_of_all_thresholds(values: int, others: int) -> None:
    member = flags(30, others)
    scores = np.random.default_rng(values).integers(values, size=30 + others) + 0.25 * values * member
    scores = np.floor(scores)
    for fpr in np.linspace(0, 1, 41):
        assert tpr_at_fpr(scores, member, fpr) == largest_tpr(scores, member, fpr), fpr


@pytest.mark.parametrize("count", range(101))
def test_tpr_allows_exactly_the_false_positives_of_its_rate(count: int) -> None:
    scores, member = np.append(99.5 - count, np.arange(100.0)), flags(1, 100)
    assert tpr_at_fpr(scores, member, count / 100) == 1
    assert count == 0 or tpr_at_fpr(scores, member, np.nextafter(count / 100, 0)) == 0


def test_tpr_takes_or_leaves_a_tied_group_whole() -> None:
    scores = np.array([3.0, 2.0, 2.0, 1.0, 2.0, 2.0, 1.0, 0.0])
    member = flags(4, 4)
    assert tpr_at_fpr(scores, member, 0.25) == 0.25
    assert tpr_at_fpr(scores, member, 0.5) == 0.75


@pytest.mark.parametrize("hits", [0, 1, 7, 19, 20])
def test_tpr_interval_holds_every_share_that_the_count_does_not_exclude(hits: int) -> None:
    scores, member = np.concatenate([np.repeat([2.0, 0.0], [hits, 20 - hits]), np.ones(5)]), flags(20, 5)
    low, high = tpr_interval(scores, member, fpr=0.0, level=0.9)
    assert low <= hits / 20 <= high
    assert low == 0 if hits == 0 else binom.sf(hits - 1, 20, low) == pytest.approx(0.05)
    assert high == 1 if hits == 20 else binom.cdf(hits, 20, high) == pytest.approx(0.05)


@pytest.mark.parametrize(("fpr", "shift"), [(0.01, 2.0), (0.001, 3.0)])
def test_tpr_interval_covers_the_share_beyond_its_threshold(fpr: float, shift: float) -> None:
    member, covered = flags(300, 200), []
    for scores in np.random.default_rng(0).normal(size=(REPEATS, 500)) + shift * member:
        threshold = np.sort(scores[~member])[::-1][round(fpr * 200)]
        low, high = tpr_interval(scores, member, fpr)
        covered.append(low <= norm.sf(threshold - shift) <= high)
    # Clopper & Pearson's intervals are exact or too long.
    assert np.mean(covered) >= 0.95 - COVERAGE_TOLERANCE


def test_low_rates_of_few_non_members_allow_no_false_positive() -> None:
    scores, member = np.append(np.arange(1998.0), [1996.5, 1998.5]), np.append(np.zeros(1998, bool), [True, True])
    fewer = np.delete(scores, np.arange(999)), np.delete(member, np.arange(999))
    assert tpr_at_fpr(scores, member, 0.001) == 1
    assert tpr_at_fpr(*fewer, 0.001) == 0.5


@pytest.mark.parametrize("values", [2, 6, 1000], ids="of {} values".format)
@pytest.mark.parametrize(("members", "others"), [(1, 1), (1, 7), (30, 20)])
def test_advantage_is_the_best_of_all_thresholds(values: int, members: int, others: int) -> None:
    scores = np.random.default_rng(values).integers(values, size=members + others).astype(float)
    member = flags(members, others)
    differences = [np.mean(scores[member] >= t) - np.mean(scores[~member] >= t) for t in [*scores, np.inf]]
    assert advantage(scores, member) == pytest.approx(max(differences), abs=1e-12)


def test_advantage_by_luck_alone() -> None:
    member = flags(2000, 1000)
    found = [advantage(scores, member) for scores in np.random.default_rng(0).normal(size=(REPEATS, 3000))]
    # Smirnov's limit (1939) has the mean √(π/8) and the variance 1/2 − π/8; it is approached from below.
    mean, deviation = np.sqrt(np.pi / 8), np.sqrt((1 / 2 - np.pi / 8) / REPEATS)
    assert np.mean(found) / np.sqrt(1 / 2000 + 1 / 1000) == pytest.approx(mean, abs=0.02 + 4 * deviation)


@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_advantage_of_two_gaussians(shift: float) -> None:
    size = 20_000
    scores, member = np.random.default_rng(0).normal(size=2 * size), flags(size, size)
    expected = 2 * norm.cdf(shift / 2) - 1
    # Either rate is off by more than 2.5/√size at any threshold in 2·exp(−12.5) of draws (Massart 1990).
    assert advantage(scores + shift * member, member) == pytest.approx(expected, abs=5 / np.sqrt(size))


@pytest.mark.parametrize("values", [3, 20, 10_000], ids="of {} values".format)
def test_figures_are_those_of_scikit_learn(values: int) -> None:
    rng = np.random.default_rng(values)
    scores, member = rng.integers(values, size=3000).astype(float), rng.permutation(flags(1700, 1300))
    scores += np.floor(0.2 * values * member)
    fpr, tpr, _ = roc_curve(member, scores, drop_intermediate=False)
    found = measure(scores, member)
    assert found["auc"] == pytest.approx(roc_auc_score(member, scores), rel=1e-12)
    assert found["advantage"] == pytest.approx(np.max(tpr - fpr), abs=1e-12)
    assert found["tpr_at_1_percent_fpr"] == tpr[fpr <= 0.01].max()
    assert found["tpr_at_0.1_percent_fpr"] == tpr[fpr <= 0.001].max()


def test_measure_names_ten_figures() -> None:
    _, scores, member = noise(60, 50)
    assert measure(scores, member) == {
        "auc": auc(scores, member),
        "auc_low": auc_interval(scores, member)[0],
        "auc_high": auc_interval(scores, member)[1],
        "advantage": advantage(scores, member),
        "tpr_at_1_percent_fpr": tpr_at_fpr(scores, member, 0.01),
        "tpr_at_1_percent_fpr_low": tpr_interval(scores, member, 0.01)[0],
        "tpr_at_1_percent_fpr_high": tpr_interval(scores, member, 0.01)[1],
        "tpr_at_0.1_percent_fpr": tpr_at_fpr(scores, member, 0.001),
        "tpr_at_0.1_percent_fpr_low": tpr_interval(scores, member, 0.001)[0],
        "tpr_at_0.1_percent_fpr_high": tpr_interval(scores, member, 0.001)[1],
    }


def test_measure_of_a_perfect_leak() -> None:
    found = measure(np.arange(30.0), ~flags(18, 12))
    lows = {name: found.pop(name) for name in list(found) if name.endswith("_low")}
    assert set(found.values()) == {1.0}
    assert list(lows.values()) == pytest.approx(3 * [0.025 ** (1 / 12)])


def test_figures_ignore_the_order_of_examples() -> None:
    _, scores, member = noise(60, 50)
    scores = np.round(scores, 1)
    order = np.random.default_rng(1).permutation(110)
    assert measure(scores[order], member[order]) == pytest.approx(measure(scores, member), rel=1e-12)


def test_threshold_score_is_the_negative_loss() -> None:
    logits, loss, member = noise(60, 50)
    np.testing.assert_array_equal(membership_scores("threshold", logits, loss, member, 5, 0), -loss)


class Spy(ClassifierMixin, BaseEstimator):
    """Stands in for a classifier; records the numbers of the examples (their first feature) it is given."""

    def __init__(self) -> None:
        self.seeds: list[int] = []
        self.fitted: list[Floats] = []
        self.scored: list[Floats] = []

    def seeded(self, seed: int) -> "Spy":
        self.seeds.append(seed)
        return self

    def fit(self, features: Floats, member: Flags) -> "Spy":
        self.classes_ = np.unique(member)
        self.fitted.append(features[:, 0])
        return self

    def predict_proba(self, features: Floats) -> Floats:
        self.scored.append(features[:, 0])
        return np.column_stack([-features[:, 0], features[:, 0]])


def spied(monkeypatch: pytest.MonkeyPatch, member: Flags, folds: int, seed: int) -> Spy:
    """A spy after the scoring of examples numbered from 0."""
    spy, number = Spy(), np.arange(float(len(member)))
    monkeypatch.setitem(ATTACKS, "spy", spy.seeded)
    monkeypatch.setattr("sklearn.preprocessing.StandardScaler", FunctionTransformer)  # numbers stay as they are
    scores = membership_scores("spy", number[:, None], np.zeros(len(member)), member, folds, seed)
    np.testing.assert_array_equal(scores, number)
    return spy


@pytest.mark.parametrize(("members", "others"), [(203, 61), (61, 203)])
def test_folds_are_disjoint_stratified_and_balanced(monkeypatch: pytest.MonkeyPatch, members: int, others: int) -> None:
    folds = 4
    spy = spied(monkeypatch, flags(members, others), folds, seed=7)
    assert spy.seeds == [7] * folds
    np.testing.assert_array_equal(np.sort(np.concatenate(spy.scored)), np.arange(members + others))
    for fitted, scored in zip(spy.fitted, spy.scored, strict=True):
        assert not set(fitted) & set(scored)
        assert len(set(fitted)) == len(fitted)
        assert np.count_nonzero(fitted < members) == np.count_nonzero(fitted >= members) >= 61 - 16
        assert np.count_nonzero(scored < members) in (members // folds, members // folds + 1)


def test_the_seed_decides_the_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    first, again, other = (spied(monkeypatch, flags(60, 60), folds=2, seed=seed).scored for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("attack", FITTED)
def test_a_memorising_attack_gains_nothing(attack: str) -> None:
    logits, loss, member = noise(150, 150, classes=100)
    features = np.column_stack([logits, loss])
    make_classifier = ATTACKS[attack]
    assert make_classifier is not None
    in_fold = make_classifier(0).fit(features, member).predict_proba(features)[:, 1]
    out_of_fold = membership_scores(attack, logits, loss, member, folds=3, seed=0)
    assert auc(in_fold, member) > 0.5
    assert auc(in_fold, member) != chance(150, 150)
    assert auc(out_of_fold, member) == chance(150, 150)


@pytest.mark.parametrize("attack", FITTED)
def test_scores_do_not_lean_to_the_majority(attack: str) -> None:
    scores = membership_scores(attack, *noise(900, 100), folds=3, seed=0)
    assert scores.mean() == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("attack", ["logistic_regression", "mlp", "knn"])
def test_scores_ignore_the_units_of_features(attack: str) -> None:
    logits, loss, member = noise(60, 60)
    scores = membership_scores(attack, logits, loss, member, 3, 0)
    scaled = membership_scores(attack, 1024 * logits, loss / 1024, member, 3, 0)
    np.testing.assert_allclose(scaled, scores, rtol=1e-6)


@pytest.mark.parametrize("attack", ATTACKS)
def test_perfect_leak_is_found_by_every_attack(attack: str) -> None:
    logits, loss, member = noise(120, 80)
    scores = membership_scores(attack, logits + 20 * member[:, None], loss - 20 * member, member, folds=3, seed=0)
    found = measure(scores, member)
    assert {found[name] for name in ("auc", "auc_high", "advantage", "tpr_at_0.1_percent_fpr")} == {1.0}


@pytest.mark.parametrize("attack", ATTACKS)
def test_independence_gives_half(attack: str) -> None:
    logits, loss, member = noise(300, 200)
    assert auc(membership_scores(attack, logits, loss, member, folds=3, seed=0), member) == chance(300, 200)


def test_a_leak_in_the_logits_is_found_by_all_but_the_threshold() -> None:
    logits, loss, member = noise(300, 300)
    logits = logits + 1.5 * member[:, None]
    low, high = auc_interval(membership_scores("threshold", logits, loss, member, 3, 0), member)
    assert low < 0.5 < high
    for attack in FITTED:
        assert auc_interval(membership_scores(attack, logits, loss, member, 3, 0), member)[0] > 0.75, attack


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_leak_in_the_loss_is_found_up_to_the_optimum(attack: str) -> None:
    size, shift = 1000, 1.5
    logits, loss, member = noise(size, size)
    found = auc(membership_scores(attack, logits, loss - shift * member, member, folds=3, seed=0), member)
    # Nothing beats the likelihood ratio, here a threshold on the loss; fitted attacks see three useless features too.
    optimum = norm.cdf(shift / np.sqrt(2))
    deviation = np.sqrt(optimum * (1 - optimum) / size)
    lost = {"threshold": 0.0, "logistic_regression": 0.002, "mlp": 0.02, "random_forest": 0.02, "knn": 0.04}[attack]
    assert optimum - lost - 4 * deviation < found < optimum + 4 * deviation


@pytest.mark.parametrize("attack", FITTED)
def test_the_seed_decides_the_scores(attack: str) -> None:
    first, again, other = (membership_scores(attack, *noise(70, 60), folds=2, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_margin_is_to_the_best_other_class() -> None:
    logits = np.array([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [3.0, 3.0, 2.0], [-5.0, -1.0, -9.0]], np.float32)
    expected = [1.0, -2.0, 0.0, 4.0]
    found = margins(logits, np.array([0, 1, 0, 1]))
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float64


def test_margins_of_many_networks_are_those_of_each() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(2, 3, 50, 4)), rng.integers(4, size=50)
    found = margins(logits, labels)
    assert found.shape == (2, 3, 50)
    for i, j, e in np.ndindex(found.shape):
        one, label = logits[i, j, e], labels[e]
        assert found[i, j, e] == one[label] - max(one[c] for c in range(4) if c != label)


@pytest.mark.parametrize("n", [2, 7, 1000])
@pytest.mark.parametrize("k", [2, 4, 16])
def test_shadow_networks_get_pairs_of_random_halves(k: int, n: int) -> None:
    inside = shadow_membership(k, n, seed=0)
    assert inside.shape == (k, n)
    assert inside.dtype == bool
    np.testing.assert_array_equal(inside[0::2], ~inside[1::2])
    assert set(inside.sum(1)) <= {n // 2, n - n // 2}


def test_shadow_halves_are_independent_and_uniform() -> None:
    inside = shadow_membership(4000, 6, seed=0)[::2]
    # Two of six examples share a half with probability 2/5; every example is in a half with probability 1/2.
    together = (inside.T.astype(float) @ inside + (~inside).T.astype(float) @ ~inside) / len(inside)
    np.testing.assert_allclose(together, np.where(np.eye(6), 1.0, 0.4), atol=4 * np.sqrt(0.24 / 2000))
    np.testing.assert_allclose(inside.mean(0), 0.5, atol=4 * np.sqrt(0.25 / 2000))
    agreement = (inside[1:] == inside[:-1]).mean()
    assert agreement == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / (2000 * 6)))


def test_the_seed_decides_the_shadow_halves() -> None:
    first, again, other = (shadow_membership(4, 30, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("k", [6, 62, 64])
def test_likelihood_ratio_is_that_of_fitted_gaussians(k: int) -> None:
    rng, n = np.random.default_rng(0), 5
    target, shadows = rng.normal(size=n), rng.normal(size=(k, n)) * np.arange(1, n + 1) + np.arange(n)
    inside = shadow_membership(k, n, 0)
    inside[0, 0] = ~inside[0, 0]  # not quite balanced
    expected = np.zeros(n)
    for sign, kind in ((1, inside), (-1, ~inside)):
        groups = [shadows[kind[:, e], e] for e in range(n)]
        squares = [np.sum((group - group.mean()) ** 2) for group in groups]
        pooled = sum(squares) / sum(len(group) - 1 for group in groups)
        for e, group in enumerate(groups):
            variance = pooled if k < 64 else squares[e] / (len(group) - 1)
            expected[e] += sign * norm.logpdf(target[e], group.mean(), np.sqrt(variance))
    np.testing.assert_allclose(likelihood_ratio(target, shadows, inside), expected, rtol=1e-10)
    assert likelihood_ratio(target.astype(np.float32), shadows.astype(np.float32), inside).dtype == np.float64


def simulated(
    k: int, n: int, shift: float, seed: int, spread: Floats | float = 1.0
) -> tuple[Floats, Floats, Flags, Flags]:
    """Margins of an attacked and of k shadow networks, what these were trained on, and the attacked one's members.

    Every example has its own mean. Training on it adds `shift`, and luck is normal, both in units of `spread`.
    """
    rng = np.random.default_rng(seed)
    mean = 3 * rng.normal(size=n)
    inside, member = shadow_membership(k, n, seed + 1), rng.permutation(flags(n // 2, n - n // 2))
    ours, theirs = (mean + spread * (rng.normal(size=who.shape) + shift * who) for who in (member, inside))
    return ours, theirs, inside, member


def auc_of_shadows(k: int, shift: float) -> float:
    """AUC of the likelihood ratio against k shadow networks, half of them with each example, and known variances.

    With m = k/2 and an example's mean as origin, the score is D·E up to monotone maps, where D ~ N(shift, 2/m) is the
    difference of the fitted means and E ~ N(±shift/2, 1 + 1/2m) the margin's distance from their midpoint.
    """
    nodes, weights = hermegauss(60)
    d = shift + np.sqrt(4 / k) * nodes
    ours, theirs = np.meshgrid(d, d)
    standardised = shift * (ours + theirs) / (2 * np.sqrt((1 + 1 / k) * (ours**2 + theirs**2)))
    return float(weights @ norm.cdf(standardised) @ weights / weights.sum() ** 2)


@pytest.mark.parametrize("k", [4, 16, 62])
@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_likelihood_ratio_finds_what_its_shadow_networks_allow(k: int, shift: float) -> None:
    size = 20_000
    target, shadows, inside, member = simulated(k, 2 * size, shift, seed=0)
    expected = auc_of_shadows(k, shift)
    found = auc(likelihood_ratio(target, shadows, inside), member)
    assert found == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / size))


@pytest.mark.parametrize("spread", [1.0, "own"])
def test_many_shadow_networks_reach_the_optimum(spread: Any) -> None:
    size, shift = 2000, 1.5
    spread = np.random.default_rng(9).uniform(0.2, 3, 2 * size) if spread == "own" else spread
    target, shadows, inside, member = simulated(400, 2 * size, shift, seed=0, spread=spread)
    optimum = norm.cdf(shift / np.sqrt(2))
    found = auc(likelihood_ratio(target, shadows, inside), member)
    assert found == pytest.approx(optimum, abs=0.005 + 4 * np.sqrt(optimum * (1 - optimum) / size))


@pytest.mark.parametrize("k", [4, 64])
def test_likelihood_ratio_of_a_perfect_leak(k: int) -> None:
    target, shadows, inside, member = simulated(k, 200, 60.0, seed=0)
    assert measure(likelihood_ratio(target, shadows, inside), member)["auc"] == 1


@pytest.mark.parametrize("shift", [0.0, 1.0])
@pytest.mark.parametrize("k", [8, pytest.param(64, marks=pytest.mark.slow)])
def test_interval_covers_the_auc_of_likelihood_ratios(k: int, shift: float) -> None:
    found = []
    for seed in range(REPEATS):
        target, shadows, inside, member = simulated(k, 300, shift, seed)
        ratios = likelihood_ratio(target, shadows, inside)
        found.append((auc(ratios, member), *auc_interval(ratios, member)))
    aucs, lows, highs = np.array(found).T
    # The formula is for a known variance; that of a single example is not.
    expected = auc_of_shadows(k, shift) if k < 64 else aucs.mean()
    assert np.mean((lows <= expected) & (expected <= highs)) == pytest.approx(0.95, abs=COVERAGE_TOLERANCE)


def test_one_of_the_shadow_networks_is_attacked_without_its_complement() -> None:
    found: dict[int, list[float]] = {1: [], 2: []}
    for seed in range(200):
        inside = shadow_membership(8, 300, seed)
        every = np.random.default_rng(seed).normal(size=inside.shape)
        for left_out, aucs in found.items():
            ratios = likelihood_ratio(every[0], every[left_out:], inside[left_out:])
            aucs.append(auc(ratios, inside[0]))
    deviation = np.sqrt(301 / (12 * 150 * 150 * 200))
    assert np.mean(found[2]) == pytest.approx(0.5, abs=4 * deviation)
    # With one network too few, the counts alone betray members.
    assert np.mean(found[1]) < 0.5 - 8 * deviation


def test_likelihood_ratios_ignore_the_order_of_examples_and_of_shadow_networks() -> None:
    target, shadows, inside, _ = simulated(8, 50, 1.0, seed=0)
    rng = np.random.default_rng(1)
    some, order = rng.permutation(8), rng.permutation(50)
    permuted = likelihood_ratio(target[order], shadows[some][:, order], inside[some][:, order])
    np.testing.assert_allclose(permuted, likelihood_ratio(target, shadows, inside)[order], rtol=1e-10)


def examples(shape: tuple[int, ...], classes: int) -> View:
    rng = np.random.default_rng(0)
    return whole(Split(rng.normal(size=shape), rng.integers(classes, size=shape[0]).astype(np.int32)))


def networks(net: Net, count: int) -> Variables:
    """Some whose variables all differ from those that networks start with, running statistics included."""
    rng = np.random.default_rng(1)
    fresh = jax.vmap(net.init)(jax.random.split(jax.random.key(0), count))
    return jax.tree.map(lambda leaf: leaf + 0.2 * np.abs(rng.normal(size=leaf.shape)).astype(leaf.dtype), fresh)


def naive_norms(net: Net, variables: Variables, x: jax.Array, labels: Floats, classes: int) -> Floats:
    """Gradient norms (k, n) of one network and one image after the other."""

    @jax.jit
    def gradient(one: Variables, image: jax.Array, target: jax.Array) -> Any:
        def loss(params: Any) -> jax.Array:
            return 0.5 * jnp.mean((net.apply(one | {"params": params}, image[None])[0] - target) ** 2)

        return jax.grad(loss)(one["params"])

    def norm_of(i: int, image: jax.Array, label: int) -> float:
        one = jax.tree.map(lambda leaf: leaf[i], variables)
        target = np.where(np.arange(classes) == label, 1 - 1 / classes, -1 / classes)
        leaves = jax.tree.leaves(gradient(one, image, target))
        return float(np.sqrt(sum(np.sum(np.asarray(leaf, np.float64) ** 2) for leaf in leaves)))

    count = len(jax.tree.leaves(variables)[0])
    return np.array([[norm_of(i, *example) for example in zip(x, labels, strict=True)] for i in range(count)])


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("architecture", ["conv", "conv_bn", "conv_in"])
def test_gradient_norms_are_those_of_each_image(architecture: str) -> None:
    net = build(architecture, (8, 8, 1), 3, width=2, depth=2)
    variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), networks(net, 2))
    given = examples((5, 8, 8, 1), 3)
    found = gradient_norms(net, lambda raw: jnp.asarray(raw) / 2)(variables, given)
    expected = naive_norms(net, variables, jnp.asarray(given.split.images) / 2, given.labels, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_gradient_norms_in_float32() -> None:
    net, given = build("conv", (8, 8, 1), 3, width=2, depth=2), examples((5, 8, 8, 1), 3)
    variables = networks(net, 2)
    found = gradient_norms(net, jnp.asarray)(variables, given)
    expected = naive_norms(net, variables, jnp.asarray(given.split.images), given.labels, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def linear(pixels: int, classes: int) -> Net:
    def init(key: jax.Array) -> Variables:
        return {"params": {"kernel": jax.random.normal(key, (pixels, classes)), "bias": jnp.zeros(classes)}}

    def apply(variables: Variables, images: jax.Array) -> jax.Array:
        return images.reshape(len(images), -1) @ variables["params"]["kernel"] + variables["params"]["bias"]

    return Net(init, apply, lambda *_: None, apply)


@pytest.mark.parametrize("n", [1, train.TEST_BATCH - 1, train.TEST_BATCH, 2 * train.TEST_BATCH + 1])
def test_gradient_norms_of_linear_networks(n: int) -> None:
    net, given = linear(6, 4), examples((n, 2, 3, 1), 4)
    variables = networks(net, 3)
    x = given.split.images.reshape(n, -1)
    kernel, bias = (np.asarray(variables["params"][name], np.float64) for name in ("kernel", "bias"))
    residual = x @ kernel + bias[:, None] - (np.eye(4)[given.labels] - 1 / 4)
    # The gradient is residual/C for the bias, and its outer product with x for the kernel.
    expected = np.linalg.norm(residual, axis=-1) / 4 * np.sqrt(1 + np.sum(x**2, axis=-1))
    found = gradient_norms(net, jnp.asarray)(variables, given)
    assert found.shape == (3, n)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_gradient_norms_are_compiled_once(caplog: pytest.LogCaptureFixture) -> None:
    net, given = linear(6, 4), examples((train.TEST_BATCH + 1, 2, 3, 1), 4)
    norms = gradient_norms(net, jnp.asarray)
    norms(networks(net, 2), given)
    other, fewer = networks(net, 2), View(given.split, np.arange(7))
    with jax.log_compiles(), caplog.at_level("WARNING"):
        norms(other, fewer)
    assert "Compiling" not in caplog.text


def norms_of(residuals: Floats) -> Floats:
    """Gradient norms (n,) of a linear network on one pixel, which grow with the logits' positive residuals (n,)."""
    net = linear(1, 2)
    variables = {"params": {"kernel": jnp.array([[[1.0, -1.0]]]), "bias": jnp.zeros((1, 2))}}
    pixels = (0.5 + residuals).reshape(-1, 1, 1, 1)
    given = whole(Split(pixels, np.zeros(len(pixels), np.int32)))
    return gradient_norms(net, jnp.asarray)(variables, given)[0]


@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_gradient_norms_find_smaller_residuals(shift: float) -> None:
    size = 5000
    member = flags(size, size)
    residuals = np.exp(np.random.default_rng(0).normal(size=2 * size) - shift * member)
    expected = norm.cdf(shift / np.sqrt(2))
    deviation = np.sqrt(expected * (1 - expected) / size)
    assert auc(-norms_of(residuals), member) == pytest.approx(expected, abs=4 * deviation)


def test_gradient_norms_of_a_perfect_leak() -> None:
    member = flags(40, 30)
    assert measure(-norms_of(np.where(member, 0.1, 0.2)), member)["auc"] == 1


def test_interval_covers_half_where_gradient_norms_know_nothing() -> None:
    rng = np.random.default_rng(0)
    norms = norms_of(np.exp(rng.normal(size=350)))
    scores = rng.permuted(np.tile(-norms, (REPEATS, 1)), axis=1)
    assert coverage(scores, flags(200, 150), 0.5) == pytest.approx(0.95, abs=COVERAGE_TOLERANCE)


def test_gradient_norms_keep_the_order_of_images() -> None:
    net, given = linear(6, 4), examples((9, 2, 3, 1), 4)
    variables, norms = networks(net, 1), gradient_norms(net, jnp.asarray)
    order = np.random.default_rng(1).permutation(9)
    np.testing.assert_allclose(norms(variables, View(given.split, order)), norms(variables, given)[:, order], rtol=1e-6)


def changed(**change: Any) -> dict[str, Any]:
    logits, loss, member = noise(60, 60)
    return {"attack": "knn", "logits": logits, "loss": loss, "member": member, "folds": 5, "seed": 0} | change


def spoiled(shape: tuple[int, ...], value: float) -> Floats:
    values = np.zeros(shape)
    values[3] = value
    return values


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (changed(attack="lira"), r"Unknown attack 'lira': expected one of threshold, .*, knn"),
        (changed(member=np.ones(120, bool)), r"got no non-members among 120 examples"),
        (changed(member=np.zeros(120, bool)), r"got no members among 120 examples"),
        (changed(folds=61), r"at least 61 members and non-members for 61 folds .* got 60 and 60"),
        (changed(member=flags(71, 49)), r"at least 50 members and non-members .* got 71 and 49"),
        (changed(member=flags(49, 71)), r"at least 50 members and non-members .* got 49 and 71"),
        (changed(loss=np.zeros(119)), r"got \(120, 3\) and \(119,\)"),
        (changed(loss=np.zeros((120, 3))), r"got \(120, 3\) and \(120, 3\): do not average"),
        (changed(logits=np.zeros(120)), r"logits \(n, C\) .* got \(120,\)"),
        (changed(member=flags(60, 59)), r"member to be bool \(120,\), got bool \(119,\)"),
        (changed(member=np.arange(120) % 2), r"member to be bool \(120,\), got int64"),
        (changed(logits=spoiled((120, 3), np.nan)), r"finite logits, got 3 of 360 NaN or infinite"),
        (changed(loss=spoiled((120,), -np.inf)), r"finite loss, got 1 of 120 NaN or infinite"),
    ],
)
def test_bad_examples_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        membership_scores(**arguments)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros(3), np.array(1), r"logits \(…, n, C\) .* got \(3,\) and \(\)"),
        (np.zeros((4, 3)), np.zeros(3, int), r"got \(4, 3\) and \(3,\): one label for each example"),
        (np.zeros((2, 4, 3)), np.zeros((2, 4), int), r"got \(2, 4, 3\) and \(2, 4\)"),
        (np.zeros((4, 1)), np.zeros(4, int), r"C ≥ 2 .* got \(4, 1\)"),
        (np.zeros((4, 3)), np.array([0, 3, -1, 2]), r"labels from 0 to 2, got 2 others"),
        (spoiled((4, 3), np.inf), np.zeros(4, int), r"finite logits, got 3 of 12"),
    ],
)
def test_bad_logits_have_no_margins(logits: Floats, labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        margins(logits, labels)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (-2, 10), (4, 1), (4, 0)])
def test_halves_come_in_pairs(k: int, n: int) -> None:
    with pytest.raises(ValueError, match=rf"even number k of networks .* got k={k}, n={n}"):
        shadow_membership(k, n, 0)


HALVES = shadow_membership(4, 5, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"margins": np.zeros((1, 5))}, r"margins \(n,\), .* got \(1, 5\), \(4, 5\) and \(4, 5\)"),
        ({"margins": np.zeros(6)}, r"got \(6,\), \(4, 5\) and \(4, 5\)"),
        ({"shadow_margins": np.zeros((3, 5))}, r"got \(5,\), \(3, 5\) and \(4, 5\)"),
        ({"inside": HALVES.T}, r"got \(5,\), \(4, 5\) and \(5, 4\)"),
        ({"inside": HALVES.astype(int)}, r"inside to be bool, got int64"),
        ({"margins": spoiled((5,), np.nan)}, r"finite margins, got 1 of 5"),
        ({"shadow_margins": spoiled((4, 5), np.inf)}, r"finite shadow_margins, got 5 of 20"),
        ({"inside": HALVES | [True, False, False, True, False]}, r"got fewer for 2 of 5 examples: train more shadow"),
        ({"inside": HALVES & [True, False, True, True, True]}, r"got fewer for 1 of 5 examples"),
        ({"inside": np.zeros((4, 5), bool)}, r"got fewer for 5 of 5 examples"),
        ({"inside": HALVES[:2], "shadow_margins": np.eye(2, 5)}, r"two or more .* got fewer for 5 of 5 examples"),
        ({"shadow_margins": np.ones((4, 5))}, r"got margins without any variance"),
    ],
)
def test_bad_shadow_networks_are_refused(change: dict[str, Any], message: str) -> None:
    given = {"margins": np.zeros(5), "shadow_margins": np.random.default_rng(0).normal(size=(4, 5)), "inside": HALVES}
    with pytest.raises(ValueError, match=message) as refused:
        likelihood_ratio(**(given | change))
    assert "\n" not in str(refused.value)


METRICS: list[Callable[[Floats, Flags], Any]] = [
    auc,
    auc_interval,
    advantage,
    measure,
    lambda scores, member: tpr_at_fpr(scores, member, 0.1),
    lambda scores, member: tpr_interval(scores, member, 0.1),
]


@pytest.mark.parametrize("metric", METRICS)
def test_bad_scores_are_refused_by_every_metric(metric: Any) -> None:
    with pytest.raises(ValueError, match="finite scores, got 1 of 9"):
        metric(spoiled((9,), np.nan), flags(5, 4))
    with pytest.raises(ValueError, match="got no non-members among 9"):
        metric(np.zeros(9), flags(9, 0))
    with pytest.raises(ValueError, match="got no members among 9"):
        metric(np.zeros(9), flags(0, 9))
    with pytest.raises(ValueError, match=r"bool \(9,\), got bool \(8,\)"):
        metric(np.zeros(9), flags(5, 3))


def test_bad_settings_are_refused() -> None:
    scores, member = np.arange(9.0), flags(5, 4)
    with pytest.raises(ValueError, match=r"level=95 .* 0\.95"):
        auc_interval(scores, member, level=95)
    with pytest.raises(ValueError, match=r"fpr=1.5 .* \[0, 1\]"):
        tpr_at_fpr(scores, member, 1.5)
    with pytest.raises(ValueError, match=r"fpr=-0\.1 "):
        tpr_interval(scores, member, -0.1)
    with pytest.raises(ValueError, match="level=0 "):
        tpr_interval(scores, member, 0.1, level=0)
    with pytest.raises(ValueError, match="two or more of each kind, got 1 members and 8"):
        auc_interval(scores, flags(1, 8))
