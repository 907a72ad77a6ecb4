"""Strict, frozen settings: what params.yaml may hold. A typo or a wrong type is an error that names the key.

Nothing has a default here: every value in force stands in params.yaml, shared ones under YAML anchors.
"""

import dataclasses
import itertools
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

T = TypeVar("T")

Protocol = Literal[
    "loo2023", "loo2023_augmented", "loo2023_hard", "reference", "inner_adam", "narrow_adam", "narrow_sgd"
]
"""see rcig.evaluate"""
Architecture = Literal[
    "conv",
    "conv_bn",
    "conv_in",
    "conv_ln",
    "conv_gn",
    "narrow_in",
    "resnet18_bn",
    "resnet18_stem_bn",
    "vgg11_bn",
    "vgg11_narrow",
    "alexnet",
    "efficientnet_b0",
    "vit_tiny",
]
"""see rcig.nets"""
Attack = Literal["threshold", "logistic_regression", "mlp", "random_forest", "knn", "gradient_norm", "likelihood_ratio"]
"""see rcig.attacks"""


class ParamsError(ValueError):
    """A setting that cannot be used. The message is one line: what was wrong, what was given, the usual fix."""


def positive(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not value > 0:
            raise ParamsError(f"expected {name} to be positive, got {value}")


def not_negative(**values: float) -> None:
    for name, value in values.items():
        if not value >= 0:
            raise ParamsError(f"expected {name} not to be negative, got {value}")


def fraction(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ParamsError(f"expected {name} between 0 and 1, got {value}")


@dataclass(frozen=True)
class DatasetParams:
    """What the paper fixes per dataset (Loo et al. 2023, appendix C; `iterations` from its table 7)."""

    resolution: int
    """side of the square images in pixels"""
    channels: int
    classes: int
    depth: int
    """stages of the convolutional network: 3 for 28 and 32 px, 4 for 64 px, 5 for 128 px"""
    whitening: Literal["standard", "zca", "zca_checkerboard"]
    """see rcig.whiten; the paper: standard for grey images, zca for RGB, zca_checkerboard for 128 px"""
    mirror: bool
    """use every distilled image together with its mirror image, in sets of up to MIRRORED images (paper: RGB)"""
    l2_rate: float
    """ridge rate per distilled image, before mirroring"""
    held_out: float
    """fraction of the training split that no distiller sees; all selection is made on it"""
    iterations: dict[int, int]
    """outer steps of the paper by images per class"""

    def __post_init__(self) -> None:
        positive(resolution=self.resolution, channels=self.channels, classes=self.classes, depth=self.depth)
        positive(l2_rate=self.l2_rate)
        if not 0 < self.held_out < 1:
            raise ParamsError(f"expected held_out between 0 and 1, both excluded, got {self.held_out}")
        if self.whitening == "zca_checkerboard" and self.resolution % 64:
            raise ParamsError(f"zca_checkerboard needs a resolution that 64 divides, got {self.resolution}; use zca")


@dataclass(frozen=True)
class LoopParams:
    """The distillation loop, common to all methods."""

    steps: int | Literal["published"]
    """outer steps; `published`: the paper's number for this dataset and images per class"""
    batch_size: int
    """real training images per outer step"""
    validate_every: int
    """outer steps between measurements of the held-out accuracy"""
    returned: Literal["last", "best"]
    """the set after the last step, or the one with the best held-out accuracy among those measured"""
    precision: Literal["float32", "tensorfloat32", "bfloat16"]
    """of matrix products on accelerators that have reduced modes; a CPU computes in float32 whatever is said here"""

    def __post_init__(self) -> None:
        if self.steps != "published":
            not_negative(steps=self.steps)
        positive(batch_size=self.batch_size, validate_every=self.validate_every)


@dataclass(frozen=True)
class OuterParams:
    """How a distilled set moves along a gradient, whatever the gradient is of."""

    learning_rate: float
    """images and labels; AdaBelief for the family of RCIG (paper: 3e-3), Adam for rat_bptt (its paper: 1e-3)"""
    temperature_learning_rate: float
    """Platt log-temperature (paper of RCIG: 3e-2)"""
    learning_rate_floor: float
    """the cosine schedule ends at this fraction of the learning rates; 1 keeps them constant (papers)"""
    learn_labels: bool
    clip_gradient: float | Literal["none"]
    """no gradient longer than this times the running norm of those before it (paper of rat_bptt: 2)"""
    outer_loss: Literal["platt", "squared"]
    average_decay: float
    """the returned set is the exponential average of the run's sets (reference code of RCIG: 0.99); 0 is the last"""

    def __post_init__(self) -> None:
        positive(learning_rate=self.learning_rate, temperature_learning_rate=self.temperature_learning_rate)
        fraction(learning_rate_floor=self.learning_rate_floor, average_decay=self.average_decay)
        if self.average_decay == 1:
            raise ParamsError("expected average_decay below 1, got 1: the average would never leave zero")
        if not isinstance(self.clip_gradient, str):
            positive(clip_gradient=self.clip_gradient)


@dataclass(frozen=True)
class ImplicitParams(OuterParams):
    """Implicit-gradient distillation and its family (Loo et al. 2023): see FAMILY."""

    linearised: bool
    """the network as its first-order expansion in the body's weights, else as it is"""
    closed_form: bool
    """the final layer follows from the body in closed form, else it is a variable of the inner problem"""
    body_weight: float
    """weight s of the body in the inner problem: 0 the final layer alone, 1 the paper's objective"""
    solver: Literal["auto", "adam", "dense", "cg"]
    """of the inner problem; auto: dense where its kernel is small, else cg"""
    cg_iterations: int
    """at most, per solve"""
    inner_steps: int
    """of adam on the inner objective (paper: 20)"""
    inverse_steps: int
    """of adam on the Hessian-inverse objective (paper: 20)"""
    inner_rate: float | Literal["auto"]
    """learning rate of the inner steps; auto: chosen before the run, adapted during it (paper)"""
    inverse_rate: float | Literal["auto"]
    """learning rate of the Hessian-inverse steps"""
    clip_implicit: bool
    """no leaf of the implicit gradient longer than the direct one (reference code: true)"""
    label_margin: bool
    """an outer loss that keeps every label's top class ahead (reference code: true)"""
    float64_solve: bool
    """64-bit solve for the final layer (paper: MNIST and Fashion-MNIST with 50 images per class)"""
    subset: int | Literal["all"]
    """distilled images that a backward pass goes through (section 3.6; paper: 500 to 2000 for the largest sets)"""
    images_per_pass: int | Literal["auto"]
    """distilled images in memory at a time; auto: 32 on a CPU, all elsewhere"""
    batch_norm: bool
    """distil with batch norm in the network, at the running statistics of the pool's networks"""
    augment: bool
    """one random transform per distilled image and step"""
    softplus_temperature: float
    """softplus(t·x)/t in place of ReLU while distilling (paper: 60); 0 is ReLU"""
    pool_size: int
    """networks in the pool (paper: 30)"""
    pool_steps: int
    """a visited network is trained for 1 to this many steps (paper: 1, reference code: 15); 0: not at all"""
    pool_age: int
    """steps after which a network is replaced (paper: 100); 0: after every visit"""
    pool_learning_rate: float
    """Adam, networks of the pool (paper: 5e-5)"""
    pool_batch_size: int
    """distilled images per training step of a network of the pool"""

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(pool_size=self.pool_size, pool_learning_rate=self.pool_learning_rate)
        positive(pool_batch_size=self.pool_batch_size, cg_iterations=self.cg_iterations)
        not_negative(pool_steps=self.pool_steps, pool_age=self.pool_age)
        not_negative(inner_steps=self.inner_steps, inverse_steps=self.inverse_steps)
        for name in ("inner_rate", "inverse_rate", "subset", "images_per_pass"):
            if not isinstance(getattr(self, name), str):
                positive(**{name: getattr(self, name)})
        not_negative(body_weight=self.body_weight, softplus_temperature=self.softplus_temperature)
        for part in ("inner", "inverse"):
            if getattr(self, f"{part}_rate") == "auto" and getattr(self, f"{part}_steps") == 1:
                raise ParamsError(f"{part}_rate auto needs 0 or at least 2 {part}_steps to see the loss fall, got 1")
        self._check_family()

    def _check_family(self) -> None:
        """Raise where the settings of the inner problem contradict each other."""
        if self.body_weight == 0:
            if not self.closed_form:
                raise ParamsError("body_weight 0 leaves the final layer alone, which needs closed_form: true")
            if self.clip_implicit:
                raise ParamsError("body_weight 0 has no implicit gradient to clip; set clip_implicit: false")
        elif self.solver != "adam" and not (self.linearised and self.closed_form):
            raise ParamsError(
                f"solver {self.solver} needs linearised: true and closed_form: true, got linearised:"
                f" {_yaml(self.linearised)}, closed_form: {_yaml(self.closed_form)}; use solver: adam"
            )
        if self.clip_implicit and not self.closed_form:
            raise ParamsError("clip_implicit needs closed_form: true: without it there is no direct gradient")


def _yaml(value: bool) -> str:
    return str(value).lower()


@dataclass(frozen=True)
class UnrolledParams(OuterParams):
    """Back-propagation through inner training (Feng et al. 2023): see UNROLLED."""

    architecture: Literal["conv", "narrow_in"]
    """of the network that is trained (paper: narrow_in of width 128)"""
    inner_steps: int
    """T: training steps of the network at most"""
    window: int
    """M: the last of these steps, through which the gradient goes"""
    window_end: Literal["random", "last"]
    """the network is trained for a random number of steps from M to T, drawn at every outer step, or always for T"""
    inner_rate: float
    """of Adam on the network's weights (paper: 1e-3)"""
    inner_loss: Literal["squared", "cross_entropy"]
    inner_batch_size: int | Literal["all"]
    """distilled images of an inner step"""
    augment: bool
    """one random transform per distilled image and inner step"""
    augment_real: bool
    """one random transform per real image"""
    rematerialise: bool
    """compute what the inner steps of the window need anew when going back: less memory, more time"""

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(inner_steps=self.inner_steps, window=self.window, inner_rate=self.inner_rate)
        if self.window > self.inner_steps:
            raise ParamsError(
                f"window {self.window} is longer than the {self.inner_steps} inner_steps that it is a part of; lower it"
            )
        if self.inner_batch_size != "all":
            positive(inner_batch_size=self.inner_batch_size)


@dataclass(frozen=True)
class RandomRealParams:
    """A random real subset has no settings."""


@dataclass(frozen=True)
class ExternalParams:
    """A set that another tool has made, see rcig.distill.given."""

    path: str
    sha256: str
    """of the file: DVC does not watch it, and another file is another experiment"""
    whitened: bool
    """with this project's whitening of the dataset; uint8 images are never"""


FAMILY: dict[str, dict[str, Any]] = {
    "vig": {"linearised": False, "closed_form": False},
    "cig": {"linearised": True, "closed_form": False},
    "rig": {"linearised": False, "closed_form": True},
    "rcig": {"linearised": True, "closed_form": True},
    "frepo": {"closed_form": True, "body_weight": 0.0, "outer_loss": "squared"},
    "rfad": {"closed_form": True, "body_weight": 0.0, "outer_loss": "platt", "pool_steps": 0, "pool_age": 0},
}
"""The methods with implicit gradients, and the settings that make each what it is."""

UNROLLED: dict[str, dict[str, Any]] = {
    "rat_bptt": {"window_end": "random"},
    "t_bptt": {"window_end": "last"},
    "bptt": {"window_end": "last"},
}
"""The methods that go back through inner training, and what makes each; the window of bptt is all of it."""

METHODS: dict[str, type] = {
    **dict.fromkeys(FAMILY, ImplicitParams),
    **dict.fromkeys(UNROLLED, UnrolledParams),
    "random_real": RandomRealParams,
    "external": ExternalParams,
}


@dataclass(frozen=True)
class EvaluateParams:
    """Networks trained on the distilled set, tested on the whole test split."""

    protocols: tuple[Protocol, ...]
    width: int
    networks: int
    measurements: int
    """tests on the way, evenly spread over the training steps; the last is at their end"""
    subsets: tuple[int, ...]
    """images per class of parts of the set that are judged as well: a boosted set's first blocks, else random ones"""

    def __post_init__(self) -> None:
        positive(width=self.width, networks=self.networks, measurements=self.measurements)
        for count in self.subsets:
            positive(subsets=count)
        if len(set(self.subsets)) < len(self.subsets):
            raise ParamsError(f"expected subsets to be different numbers, got {list(self.subsets)}")
        if not self.protocols:
            raise ParamsError("expected at least one of protocols, got none")


@dataclass(frozen=True)
class CrossArchParams:
    """Other architectures trained on the distilled set. An empty mapping of widths switches the stage off."""

    widths: dict[Architecture, int]
    """architecture -> number of filters of its first stage"""
    networks: int
    steps: int
    learning_rates: tuple[float, ...]
    """each architecture is tested with that of the best held-out accuracy"""

    def __post_init__(self) -> None:
        positive(networks=self.networks, steps=self.steps)
        if not self.learning_rates:
            raise ParamsError("expected at least one of learning_rates, got none")
        for rate in self.learning_rates:
            positive(learning_rates=rate)
        for architecture, width in self.widths.items():
            positive(**{f"widths.{architecture}": width})


@dataclass(frozen=True)
class AttackParams:
    """Membership inference against networks trained on real members, a real subset and the distilled set."""

    trained_on: tuple[Literal["real_members", "real_subset", "distilled"], ...]
    """an empty list switches the stage off"""
    width: int
    networks: int
    measured_at: tuple[int, ...]
    """training steps after which the networks are tested and attacked; they are trained until the last"""
    batch_size: int
    learning_rate: float
    attacks: tuple[Attack, ...]
    """after the last step"""
    curve_attacks: tuple[Attack, ...]
    """after the others"""
    folds: int
    """of the cross-validation that gives every example an out-of-fold score"""
    shadow_networks: int
    """of likelihood_ratio"""

    def __post_init__(self) -> None:
        positive(width=self.width, networks=self.networks, batch_size=self.batch_size)
        positive(learning_rate=self.learning_rate)
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
class BoostParams:
    """A set that is distilled block by block, so that its first blocks are a set of their own (Feng et al. 2023)."""

    block: int
    """images per class of a block; every one has the outer steps of the loop"""
    mobility: float
    """factor on the updates of the blocks before the one that is distilled: 0 leaves them as they are"""

    def __post_init__(self) -> None:
        positive(block=self.block)
        fraction(mobility=self.mobility)


@dataclass(frozen=True)
class HardnessParams:
    """Real batches drawn by hardness: how many networks trained on a distilled set miss an image."""

    scores: str
    """the file that `python -m stages.score` made"""
    sha256: str
    """of the file: DVC does not watch it, and another file is another experiment"""
    strength: float
    """an image that all networks miss is drawn 1 + strength times as often as one that none misses"""

    def __post_init__(self) -> None:
        positive(strength=self.strength)


@dataclass(frozen=True)
class Experiment:
    """One distilled set, its seeds, and how it is judged."""

    dataset: str
    images_per_class: int
    method: str
    width: int
    """of the network while distilling"""
    seeds: tuple[int, ...]
    chunk: int | Literal["all"]
    """training images that a seed may see: all but the held-out ones, or as many as said, none shared by two seeds"""
    initialisation: Literal["real", "noise", "unit_noise"]
    """random real images, or standard normal noise, in the last case with images scaled to norm 1"""
    basis: int | Literal["none"]
    """basis images that all images are mixtures of; none: every image is learned for itself"""
    boost: BoostParams | Literal["none"]
    hardness: HardnessParams | Literal["none"]
    loop: LoopParams
    settings: Any
    """of the method, see METHODS"""
    evaluate: EvaluateParams
    cross_arch: CrossArchParams
    attack: AttackParams

    def __post_init__(self) -> None:
        positive(images_per_class=self.images_per_class, width=self.width)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ParamsError(f"expected seeds to be different numbers, at least one, got {list(self.seeds)}")
        if self.basis != "none":
            positive(basis=self.basis)
        if self.method in ("random_real", "external"):
            for name in ("basis", "boost", "hardness"):
                if getattr(self, name) != "none":
                    raise ParamsError(f"{name}: nothing is distilled by {self.method}; set {name}: none")
            if self.initialisation != "real":
                raise ParamsError(f"initialisation: {self.method} starts from no noise; set initialisation: real")
        self._check_boost()
        self._check_subsets()
        if self.chunk != "all":
            positive(chunk=self.chunk)
            if min(self.seeds) < 0:
                raise ParamsError(f"with a chunk, seeds number the chunks from 0, got {list(self.seeds)}")

    def _check_boost(self) -> None:
        if isinstance(self.boost, str):
            return
        if self.images_per_class % self.boost.block:
            raise ParamsError(
                f"boost: blocks of {self.boost.block} images per class do not divide {self.images_per_class};"
                " give a divisor"
            )
        if self.basis != "none":
            raise ParamsError("boost: a basis is shared by all blocks and would move those before; set basis: none")

    def _check_subsets(self) -> None:
        for count in self.evaluate.subsets:
            if count >= self.images_per_class:
                raise ParamsError(
                    f"evaluate.subsets: {count} is no part of a set of {self.images_per_class} images per class"
                )
            if not isinstance(self.boost, str) and count % self.boost.block:
                raise ParamsError(
                    f"evaluate.subsets: {count} images per class are not whole blocks of {self.boost.block}"
                )
        if self.evaluate.subsets and self.basis != "none":
            raise ParamsError("evaluate.subsets: a part of a set of mixtures needs the whole basis; give none")
        if self.evaluate.subsets and self.method == "external":
            raise ParamsError("evaluate.subsets: a set made elsewhere has no order by class to choose from; give none")

    @property
    def blocks(self) -> list[int]:
        """Images per class after each block; of a set that is not boosted its own."""
        block = self.images_per_class if isinstance(self.boost, str) else self.boost.block
        return list(range(block, self.images_per_class + 1, block))

    @property
    def label(self) -> str:
        """The method, with what else is done besides: the name of its rows in tables."""
        more = {"linear_basis": self.basis, "boost": self.boost, "hardness": self.hardness}
        names = [name for name, value in more.items() if value != "none"]
        return "+".join([self.method, *names, *["batch_norm"] * getattr(self.settings, "batch_norm", False)])


@dataclass(frozen=True)
class FullDatasetParams:
    """Networks trained on all training images but the held-out ones, tested on the whole test split."""

    width: int
    networks: int
    steps: int
    batch_size: int
    learning_rate: float
    """of Adam, after a warm-up over a tenth of the steps; falls to a hundredth as a cosine"""
    augment: bool
    validate_every: int
    seed: int

    def __post_init__(self) -> None:
        positive(width=self.width, networks=self.networks, steps=self.steps, batch_size=self.batch_size)
        positive(learning_rate=self.learning_rate, validate_every=self.validate_every)


FIGURES: dict[str, tuple[str, ...]] = {"steps": ("solver", "inner_steps", "inverse_steps"), "subset": ("subset",)}
"""What a study can be drawn as, and the settings that one of its grids must vary for that."""


@dataclass(frozen=True)
class Study:
    """What settings of one method do to time, memory and accuracy."""

    base: Experiment
    """gives all that the grids do not; its settings are those of a method of FAMILY"""
    grids: tuple[dict[str, Any], ...]
    """each maps settings to lists of values and stands for all their combinations; the study is the union of them"""
    figure: Literal["steps", "subset"]
    """see FIGURES"""
    timing_steps: int
    """outer steps that are timed one by one, after two that are not"""

    def __post_init__(self) -> None:
        positive(timing_steps=self.timing_steps)

    @property
    def varied(self) -> list[str]:
        """The settings that any grid names."""
        return list(dict.fromkeys(name for grid in self.grids for name in grid))

    def points(self) -> list[tuple[dict[str, Any], Experiment]]:
        """(values of one combination, the experiment with them in force); of equal experiments the first alone."""
        found: dict[Any, tuple[dict[str, Any], Experiment]] = {}
        for grid in self.grids:
            for values in itertools.product(*grid.values()):
                point = dict(zip(grid, values, strict=True))
                settings = dataclasses.replace(self.base.settings, **point)
                found.setdefault(settings, (point, dataclasses.replace(self.base, settings=settings)))
        return list(found.values())


@dataclass(frozen=True)
class Params:
    datasets: dict[str, DatasetParams]
    full_dataset: dict[str, FullDatasetParams]
    """by dataset"""
    experiments: dict[str, Experiment]
    studies: dict[str, Study]

    def dataset(self, name: str) -> DatasetParams:
        choice("datasets in params.yaml", "dataset", name, self.datasets)
        return self.datasets[name]

    def experiment(self, name: str) -> Experiment:
        choice("experiments in params.yaml", "experiment", name, self.experiments)
        return self.experiments[name]

    def full(self, name: str) -> FullDatasetParams:
        choice("full_dataset in params.yaml", "dataset", name, self.full_dataset)
        return self.full_dataset[name]

    def study(self, name: str) -> Study:
        choice("studies in params.yaml", "study", name, self.studies)
        return self.studies[name]


def load(path: str | Path = "params.yaml") -> Params:
    """All settings, checked as a whole. Raises ParamsError naming the file and the key."""
    try:
        raw = YAML(typ="safe").load(Path(path).read_text())
    except FileNotFoundError:
        raise ParamsError(f"{path}: no such file; run from the folder that holds it") from None
    except YAMLError as error:
        raise ParamsError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, Mapping):
        raise ParamsError(f"{path}: expected the sections {', '.join(names(Params))}, got {raw!r}")
    try:
        # `shared` holds anchors only and is read where they are used.
        return parse_params({name: section for name, section in raw.items() if name != "shared"})
    except ParamsError as error:
        raise ParamsError(f"{path}: {error}") from None


def parse_params(raw: Mapping[str, Any]) -> Params:
    params = parse(Params, raw, "")
    experiments = {name: _typed_settings(f"experiments.{name}", e) for name, e in params.experiments.items()}
    studies = {name: _typed_study(f"studies.{name}", study) for name, study in params.studies.items()}
    bases = {f"studies.{name}.base": study.base for name, study in studies.items()}
    for where, experiment in ({f"experiments.{name}": e for name, e in experiments.items()} | bases).items():
        _check_references(where, experiment, params.datasets)
    for name in params.full_dataset:
        choice(f"full_dataset.{name}", "dataset", name, params.datasets)
    return dataclasses.replace(params, experiments=experiments, studies=studies)


def steps(dataset: DatasetParams, experiment: Experiment) -> int:
    """Outer steps of an experiment, the paper's if so asked."""
    if experiment.loop.steps != "published":
        return experiment.loop.steps
    return dataset.iterations[experiment.images_per_class]


MIRRORED = 1000
"""distilled images of the largest set that is mirrored (Loo et al. 2023, appendix C)"""


def mirrored(dataset: DatasetParams, experiment: Experiment) -> bool:
    """Whether an experiment's images are used together with their mirror images."""
    return dataset.mirror and experiment.images_per_class * dataset.classes <= MIRRORED


def choice(where: str, what: str, given: str, known: typing.Iterable[str]) -> None:
    """Raise unless `given` is one of the known names."""
    known = sorted(known)
    if given not in known:
        raise ParamsError(f"{where}: unknown {what} {given!r}; known: {', '.join(known)}")


def _typed_settings(where: str, experiment: Experiment) -> Experiment:
    choice(f"{where}.method", "method", experiment.method, METHODS)
    settings: Any = parse(METHODS[experiment.method], experiment.settings, f"{where}.settings")
    try:
        _check_method(experiment.method, settings)
    except ParamsError as error:
        raise ParamsError(f"{where}.settings.{error}") from None
    if experiment.method == "external" and len(experiment.seeds) > 1:
        raise ParamsError(
            f"{where}.seeds: a set made elsewhere is one set, got {list(experiment.seeds)}; give one seed"
        )
    return dataclasses.replace(experiment, settings=settings)


def _check_method(method: str, settings: Any) -> None:
    for key, value in (FAMILY | UNROLLED).get(method, {}).items():
        if getattr(settings, key) != value:
            raise ParamsError(
                f"{key}: {method} has {value}, got {getattr(settings, key)}; with another value it is another method"
            )
    if method == "bptt" and settings.window != settings.inner_steps:
        raise ParamsError(
            f"window: bptt goes back through all {settings.inner_steps} inner_steps, got {settings.window}; use t_bptt"
        )


def _typed_study(where: str, study: Study) -> Study:
    """The study with every value of its grids of its setting's type, and every combination one that can be used."""
    choice(f"{where}.base.method", "method with settings to vary", study.base.method, FAMILY)
    if study.base.boost != "none":
        raise ParamsError(f"{where}.base.boost: a study measures one run at a time; set boost: none")
    base = _typed_settings(f"{where}.base", study.base)
    grids = tuple(_typed_grid(f"{where}.grids[{i}]", base, grid) for i, grid in enumerate(study.grids))
    needed = FIGURES[study.figure]
    if not any(set(needed) <= set(grid) for grid in grids):
        raise ParamsError(f"{where}.grids: figure {study.figure} needs a grid that varies {', '.join(needed)}")
    return dataclasses.replace(study, base=base, grids=grids)


def _typed_grid(where: str, base: Experiment, grid: Mapping[str, Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(type(base.settings))
    for name in grid:
        choice(f"{where}.{name}", "setting", name, hints)
    lists = {name: types.GenericAlias(tuple, (hints[name], ...)) for name in grid}
    typed = {name: _convert(lists[name], values, f"{where}.{name}") for name, values in grid.items()}
    for name, values in typed.items():
        if not values:
            raise ParamsError(f"{where}.{name}: expected at least one value, got none")
    for indices in itertools.product(*(range(len(values)) for values in typed.values())):
        chosen = dict(zip(typed, indices, strict=True))
        try:
            settings = dataclasses.replace(base.settings, **{name: typed[name][i] for name, i in chosen.items()})
            _check_method(base.method, settings)
        except ParamsError as error:
            place = ", ".join(f"{name}[{i}]" for name, i in chosen.items())
            raise ParamsError(f"{where}.{place}: {error}") from None
    return typed


def _check_references(where: str, experiment: Experiment, datasets: Mapping[str, DatasetParams]) -> None:
    choice(f"{where}.dataset", "dataset", experiment.dataset, datasets)
    iterations = datasets[experiment.dataset].iterations
    if experiment.loop.steps == "published" and experiment.images_per_class not in iterations:
        raise ParamsError(
            f"{where}.loop.steps: the paper has no number of steps for {experiment.images_per_class} images per class"
            f" of {experiment.dataset} (it has {', '.join(map(str, iterations))}); give a number"
        )


def names(cls: type) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]


def parse(cls: type[T], raw: Any, where: str) -> T:
    """A dataclass from a mapping with exactly its keys, each of its field's type, nested ones included."""
    if not isinstance(raw, Mapping):
        raise ParamsError(f"{where or 'top level'}: expected a mapping with {', '.join(names(cls))}, got {raw!r}")
    prefix = f"{where}." if where else ""
    for key in raw:
        choice(f"{prefix}{key}", "key", str(key), names(cls))
    for name in names(cls):
        if name not in raw:
            raise ParamsError(f"{prefix}{name}: missing; add it, every setting stands in params.yaml")
    hints = typing.get_type_hints(cls)
    values = {name: _convert(hints[name], raw[name], f"{prefix}{name}") for name in names(cls)}
    try:
        return cls(**values)
    except ParamsError as error:
        raise ParamsError(f"{where}: {error}") from None


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return parse(typing.cast(type, hint), value, where)
    if hint is Any:
        return value
    if origin is Literal:
        if value in arguments:
            return value
        raise ParamsError(f"{where}: expected one of {', '.join(map(str, arguments))}, got {value!r}")
    if origin in (typing.Union, types.UnionType):
        literals = [argument for argument in arguments if typing.get_origin(argument) is Literal]
        if any(value in typing.get_args(literal) for literal in literals if isinstance(value, str)):
            return value
        return _convert(next(argument for argument in arguments if argument not in literals), value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        key_type, value_type = arguments
        return {_convert(key_type, k, where): _convert(value_type, v, f"{where}.{k}") for k, v in value.items()}
    return _scalar(origin or hint, value, where)


def _scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    expected = {tuple: "a list", dict: "a mapping", int: "a whole number", float: "a number", bool: "true or false"}
    raise ParamsError(f"{where}: expected {expected.get(hint, hint.__name__)}, got {value!r}")
