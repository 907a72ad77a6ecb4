"""Attacks against naive pair counts, closed forms and simulated leaks."""

from typing import Any

import numpy as np
import pytest
from scipy.special import logit
from scipy.stats import binom, norm

from rcig.attacks import ATTACKS, Flags, Floats, attack_all, auc, auc_interval, membership_scores, tpr_at_fpr

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


def test_metrics_ignore_the_order_of_examples() -> None:
    _, scores, member = noise(60, 50)
    scores = np.round(scores, 1)
    order = np.random.default_rng(1).permutation(110)
    assert auc(scores[order], member[order]) == auc(scores, member)
    assert tpr_at_fpr(scores[order], member[order], 0.1) == tpr_at_fpr(scores, member, 0.1)
    assert auc_interval(scores[order], member[order]) == pytest.approx(auc_interval(scores, member), rel=1e-12)


def test_threshold_score_is_the_negative_loss() -> None:
    logits, loss, member = noise(60, 50)
    np.testing.assert_array_equal(membership_scores("threshold", logits, loss, member, 5, 0), -loss)


class Spy:
    """Stands in for a classifier; records the numbers of the examples (their first feature) it is given."""

    def __init__(self) -> None:
        self.seeds: list[int] = []
        self.fitted: list[Floats] = []
        self.scored: list[Floats] = []

    def seeded(self, seed: int) -> "Spy":
        self.seeds.append(seed)
        return self

    def fit(self, features: Floats, _: Flags) -> "Spy":
        self.fitted.append(features[:, 0])
        return self

    def predict_proba(self, features: Floats) -> Floats:
        self.scored.append(features[:, 0])
        return np.column_stack([-features[:, 0], features[:, 0]])


def spied(monkeypatch: pytest.MonkeyPatch, member: Flags, folds: int, seed: int) -> Spy:
    """A spy after the scoring of examples numbered from 0."""
    spy, number = Spy(), np.arange(float(len(member)))
    monkeypatch.setitem(ATTACKS, "spy", spy.seeded)
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


def test_perfect_leak_is_found_by_every_attack() -> None:
    logits, loss, member = noise(120, 80)
    metrics = attack_all(logits + 20 * member[:, None], loss - 20 * member, member, folds=3, seed=0)
    for attack in ATTACKS:
        assert metrics[f"auc/{attack}"] == 1
        assert metrics[f"auc_high/{attack}"] == 1
        assert metrics[f"tpr_at_1_percent_fpr/{attack}"] == 1


@pytest.mark.parametrize("attack", ATTACKS)
def test_independence_gives_half(attack: str) -> None:
    logits, loss, member = noise(300, 200)
    assert auc(membership_scores(attack, logits, loss, member, folds=3, seed=0), member) == chance(300, 200)


def test_a_leak_in_the_logits_is_found_by_all_but_the_threshold() -> None:
    logits, loss, member = noise(300, 300)
    metrics = attack_all(logits + 1.5 * member[:, None], loss, member, folds=3, seed=0)
    assert metrics["auc_low/threshold"] < 0.5 < metrics["auc_high/threshold"]
    assert min(metrics[f"auc_low/{attack}"] for attack in FITTED) > 0.75


def test_a_leak_in_the_loss_is_found_by_all() -> None:
    logits, loss, member = noise(300, 300)
    metrics = attack_all(logits, loss - 1.5 * member, member, folds=3, seed=0)
    assert min(metrics[f"auc_low/{attack}"] for attack in ATTACKS) > 0.75


def test_attack_all_names_four_metrics_of_each_attack() -> None:
    logits, loss, member = noise(70, 60)
    metrics = attack_all(logits, loss, member, folds=2, seed=0)
    kinds = ["auc", "auc_low", "auc_high", "tpr_at_1_percent_fpr"]
    assert list(metrics) == [f"{kind}/{attack}" for attack in ATTACKS for kind in kinds]
    assert metrics["auc/threshold"] == pytest.approx(outcomes(-loss, member).mean())
    assert metrics["tpr_at_1_percent_fpr/threshold"] == largest_tpr(-loss, member, 0.01)
    for attack in ATTACKS:
        assert metrics[f"auc_low/{attack}"] < metrics[f"auc/{attack}"] < metrics[f"auc_high/{attack}"]


@pytest.mark.parametrize("attack", FITTED)
def test_the_seed_decides_the_scores(attack: str) -> None:
    first, again, other = (membership_scores(attack, *noise(70, 60), folds=2, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


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


@pytest.mark.parametrize("metric", [auc, auc_interval, lambda scores, member: tpr_at_fpr(scores, member, 0.1)])
def test_bad_scores_are_refused_by_every_metric(metric: Any) -> None:
    with pytest.raises(ValueError, match="finite scores, got 1 of 9"):
        metric(spoiled((9,), np.nan), flags(5, 4))
    with pytest.raises(ValueError, match="got no non-members among 9"):
        metric(np.zeros(9), flags(9, 0))
    with pytest.raises(ValueError, match=r"bool \(9,\), got bool \(8,\)"):
        metric(np.zeros(9), flags(5, 3))


def test_bad_settings_are_refused() -> None:
    scores, member = np.arange(9.0), flags(5, 4)
    with pytest.raises(ValueError, match=r"level=95 .* 0\.95"):
        auc_interval(scores, member, level=95)
    with pytest.raises(ValueError, match=r"fpr=1.5 .* \[0, 1\]"):
        tpr_at_fpr(scores, member, 1.5)
    with pytest.raises(ValueError, match="two or more of each kind, got 1 members and 8"):
        auc_interval(scores, flags(1, 8))
