"""Implicit-gradient distillation (Loo et al. 2023): VIG, CIG, RIG and RCIG, and what they share with FRePo and RFAD.

One code path. The members differ in what an image contributes to a prediction, whether the final layer is solved in
closed form, and the outer loss: three settings (MEMBERS). See `rcig.inner` for the inner problem.

What differs from the paper, and where the public reference code does; every difference is a setting, and the fields of
Settings say which value is whose:

1.  `body_weight` s: a separate ridge for the body, ½λ(‖δ‖²/s + ‖Ω‖²). s = 1 is the paper's objective, s = 0 the final
    layer alone. A few Adam steps from zero act like a small s. The default is 0.1, as it does best in equal time.
2.  `solver`: `dense` and `cg` solve the inner problem, and for the inverse Hessian, exactly and without learning rates.
    `adam` is the paper's Algorithm 1: truncated, two learning rates, chosen before the run and adapted during it.
    The inner loss of the reference code is divided by the images n times the classes C. That changes no minimum, but
    what truncated steps reach: its rate of the inverse steps is ours times n·C, its eps of the inner Adam ours divided
    by n·C, so rates from its logs must not be copied. Its linearised part also carries the tangents of the final layer,
    which it solves in closed form, and its inner steps ascend in that layer; ours split body and final layer as the
    paper does. With these three undone both codes have the same gradient to 13 digits.
3.  `clip_implicit`, `label_margin`, `average_decay`, `pool_steps`: from the reference code, where the paper is silent.
    The margin of its labels lies within the direct gradient and so raises the bound to which it clips that of the
    labels; ours is added after clipping.
4.  `inner_rate`, `inverse_rate`: both Adam rates are adapted, as the paper says; the reference code adapts one.
5.  `backward_images` sends backward passes through a random part of the distilled images (section 3.6): without bias in
    the whole gradient for `dense` and `cg`, in every gradient it takes for `adam`, whose steps are sampled too.
6.  `images_per_pass`: no full forward pass is held in memory either. So many images are in memory at a time, and
    recomputed where they are needed again.
7.  Nothing is ever chosen on test data: a part of the training split is held out for that (`held_out` of a dataset),
    and `returned: best` of the loop returns the set with the best accuracy on it instead of the last.
8.  `networks`: RFAD is the mean kernel of so many fresh networks (its code: 8). Here their features stand side by side.
9.  `float64_solve` solves for the final layer in 64 bits, which the paper does for 500 images of MNIST; all else is
    float32 everywhere.
"""

import dataclasses
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rcig import backend, inner
from rcig.augment import augment
from rcig.errors import ParamsError
from rcig.fields import NOT_NEGATIVE, POSITIVE
from rcig.inner import Outputs, Problem, Rates, Solved, Weights
from rcig.methods import pool as pools
from rcig.methods.base import Batch, Distilled, Info, Member, Method, Setup, support
from rcig.methods.descent import OuterDescent, Position, descend, on_real
from rcig.methods.feeds import Examples, real_batches
from rcig.methods.rates import Rate, adapt, choose
from rcig.nets import Net, Variables
from rcig.passes import map_images

DENSE_UNKNOWNS = {"cpu": 500, "accelerator": 100}
"""solver auto takes dense up to this many unknowns, images times classes, as measured on two cores and on an H200"""
CG_RESIDUAL, CG_MOST = 1e-3, 100
"""cg_iterations auto: as many as leave this part of the right-hand side, at most so many"""
DENSE_MEMORY = 0.5
"""fraction of the device's memory that the Jacobian of solver dense may take"""


@dataclass(frozen=True)
class Settings(OuterDescent):
    """Defaults are for minutes on a CPU; `sizes.paper` in params.yaml has the paper's learning rates."""

    linearised: bool = True
    """the network as its first-order expansion in the body's weights, else as it is"""
    closed_form: bool = True
    """the final layer follows from the body in closed form, else it is a variable of the inner problem"""
    body_weight: Annotated[float, NOT_NEGATIVE] = 0.1
    """weight s of the body in the inner problem: 0 the final layer alone, 1 the paper's objective"""
    solver: Literal["auto", "adam", "dense", "cg"] = "auto"
    """of the inner problem; auto: dense where its kernel is small, else cg (paper: adam)"""
    cg_iterations: Annotated[int, POSITIVE] | Literal["auto"] = "auto"
    """per solve, at most; auto: as many as leave the residual CG_RESIDUAL: two or three for a body_weight of 0.1"""
    inner_steps: Annotated[int, NOT_NEGATIVE] = 20
    """of adam on the inner objective (paper: 20)"""
    inverse_steps: Annotated[int, NOT_NEGATIVE] = 20
    """of adam on the Hessian-inverse objective (paper: 20)"""
    inner_rate: Annotated[float, POSITIVE] | Literal["auto"] = "auto"
    """learning rate of the inner steps; auto: chosen before the run, adapted during it (paper)"""
    inverse_rate: Annotated[float, POSITIVE] | Literal["auto"] = "auto"
    """learning rate of the Hessian-inverse steps"""
    clip_implicit: bool = False
    """no leaf of the implicit gradient longer than the direct one (reference code: true)"""
    label_margin: bool = False
    """an outer loss that keeps every label's top class ahead (reference code: true)"""
    float64_solve: bool = False
    """64-bit solve for the final layer (paper: MNIST and Fashion-MNIST with 50 images per class)"""
    backward_images: Annotated[int, POSITIVE] | None = None
    """distilled images that a backward pass goes through (section 3.6; paper: 500 to 2000 for the largest sets);
    null: all"""
    images_per_pass: Annotated[int, POSITIVE] | None = None
    """distilled images in memory at a time; null: 32 on a CPU, all elsewhere"""
    batch_norm: bool = False
    """distil with batch norm in the network, at the running statistics of the pool's networks"""
    augment: bool = False
    """one random transform per distilled image and step"""
    softplus_temperature: Annotated[float, NOT_NEGATIVE] = 60.0
    """softplus(t·x)/t in place of ReLU while distilling (paper: 60); 0 is ReLU"""
    networks: Annotated[int, POSITIVE] = 1
    """networks that make up one of the pool; more for rfad alone (code of its paper: 8)"""
    pool_size: Annotated[int, POSITIVE] = 30
    """networks in the pool (paper: 30)"""
    pool_steps: Annotated[int, NOT_NEGATIVE] = 1
    """a visited network is trained for 1 to this many steps (paper: 1, reference code: 15); 0: not at all"""
    pool_age: Annotated[int, NOT_NEGATIVE] = 100
    """steps after which a network is replaced (paper: 100); 0: after every visit"""
    pool_learning_rate: Annotated[float, POSITIVE] = 5e-5
    """Adam, networks of the pool (paper: 5e-5)"""
    pool_batch_size: Annotated[int, POSITIVE] = 500
    """distilled images per training step of a network of the pool"""

    def __post_init__(self) -> None:
        for part in ("inner", "inverse"):
            if getattr(self, f"{part}_rate") == "auto" and getattr(self, f"{part}_steps") == 1:
                raise ParamsError(f"{part}_rate auto needs 0 or at least 2 {part}_steps to see the loss fall, got 1")
        if self.body_weight == 0:
            if not self.closed_form:
                raise ParamsError("body_weight 0 leaves the final layer alone, which needs closed_form: true")
            if self.clip_implicit:
                raise ParamsError("body_weight 0 has no implicit gradient to clip; set clip_implicit: false")
        elif self.solver != "adam" and not (self.linearised and self.closed_form):
            linearised, closed_form = (str(value).lower() for value in (self.linearised, self.closed_form))
            raise ParamsError(
                f"solver {self.solver} needs linearised: true and closed_form: true, got linearised:"
                f" {linearised}, closed_form: {closed_form}; use solver: adam"
            )
        if self.networks > 1 and (self.body_weight or self.pool_steps):
            raise ParamsError(
                f"networks {self.networks} are neither linearised nor trained together; set networks: 1, or"
                " body_weight: 0 and pool_steps: 0"
            )
        if self.clip_implicit and not self.closed_form:
            raise ParamsError("clip_implicit needs closed_form: true: without it there is no direct gradient")


_ADAM = {"solver": "adam", "body_weight": 1.0}
_LAST_LAYER = {"closed_form": True, "body_weight": 0.0}
MEMBERS = {
    "vig": Member({"linearised": False, "closed_form": False}, _ADAM),
    "cig": Member({"linearised": True, "closed_form": False}, _ADAM),
    "rig": Member({"linearised": False, "closed_form": True}, _ADAM | {"clip_implicit": True}),
    "rcig": Member({"linearised": True, "closed_form": True}),
    "frepo": Member(_LAST_LAYER | {"outer_loss": "squared"}),
    "rfad": Member(
        _LAST_LAYER | {"outer_loss": "platt", "pool_steps": 0, "pool_age": 0}, {"pool_size": 1, "networks": 8}
    ),
}


def check(settings: Settings, images: int, classes: int) -> None:
    """Raise ParamsError for settings that do not fit a set of so many images, mirror images counted."""
    if settings.backward_images is not None and settings.backward_images > images:
        raise ParamsError(
            f"backward_images {settings.backward_images} is larger than the set of {images} images; give at most that,"
            " or null for all"
        )
    given = settings.cg_iterations
    if settings.body_weight and settings.solver == "cg" and given != "auto" and given > images * classes:
        raise ParamsError(
            f"cg_iterations {given} is more than the {images * classes} unknowns of {images} images"
            f" and {classes} classes; conjugate gradients ends by then, 20 are usually enough"
        )


def chosen(settings: Settings, setup: Setup) -> Settings:
    """The settings with `solver: auto` replaced by what suits the set and the device.

    Raises ParamsError for a solver that the device has no memory for.
    """
    if settings.body_weight == 0:
        return settings
    images, unknowns = setup.support, setup.support * setup.classes
    body = jax.eval_shape(_network(settings, setup).init, jax.random.key(0))["params"]["body"]
    # The Jacobian and the system's matrix with its factor, in float32.
    gib = 4 * unknowns * (sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(body)) + 2 * unknowns) / 2**30
    fits = gib <= DENSE_MEMORY * _memory_gib()
    few = backend.suited(**DENSE_UNKNOWNS)
    if settings.solver == "auto":
        settings = dataclasses.replace(settings, solver="dense" if fits and unknowns <= few else "cg")
    if settings.solver == "dense" and not fits:
        raise ParamsError(
            f"solver dense would need {gib:.1f} GiB for the Jacobian and kernel of {images} images and"
            f" {setup.classes} classes, of {_memory_gib():.1f} GiB on this device; use solver: cg"
        )
    return settings


def make(settings: Settings, setup: Setup) -> Method[Any, Examples, Distilled]:
    """The method for one run."""
    settings = chosen(settings, setup)
    return implicit_gradient(_network(settings, setup), settings, setup)


def _network(settings: Settings, setup: Setup) -> Net:
    architecture = "conv_bn" if settings.batch_norm else "conv"
    net = setup.network(architecture, temperature=settings.softplus_temperature)
    return net if settings.networks == 1 else several(net, settings.networks)


def several(net: Net, count: int) -> Net:
    """So many networks as one: their features side by side, so its kernel is the mean of theirs. None is trained."""

    def init(key: jax.Array) -> Variables:
        networks = jax.vmap(net.init)(jax.random.split(key, count))
        body, head = networks["params"]["body"], networks["params"]["head"]
        kernel = head["kernel"].reshape(-1, head["kernel"].shape[-1])
        return networks | {"params": {"body": body, "head": {"kernel": kernel, "bias": head["bias"][0]}}}

    def features(body: Any, images: jax.Array, statistics: Any = MappingProxyType({})) -> jax.Array:
        each = jax.vmap(net.features, (0, None, 0))(body, images, dict(statistics))
        return each.transpose(1, 0, 2).reshape(len(images), -1) / math.sqrt(count)

    def apply(variables: Variables, images: jax.Array) -> jax.Array:
        params, statistics = variables["params"], variables.get("batch_stats", {})
        return features(params["body"], images, statistics) @ params["head"]["kernel"] + params["head"]["bias"]

    return Net(init, apply, lambda variables, images: (apply(variables, images), variables), features)


def _memory_gib() -> float:
    """Memory of the first device; on a CPU that of the machine."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return float(statistics.get("bytes_limit", installed)) / 2**30


Support = Callable[[Distilled], tuple[jax.Array, jax.Array]]
"""distilled set -> images and labels that networks are fitted to"""


class State(NamedTuple):
    position: Position
    pool: pools.Pool
    rates: Rates
    """the two learning rates of the solver `adam`, each a `Rate`"""


def implicit_gradient(net: Net, settings: Settings, setup: Setup) -> Method[State, Examples, Distilled]:
    """The method with a network, which `make` builds as the settings say."""
    pool_optimizer = optax.adam(settings.pool_learning_rate)
    outer = descend(optax.adabelief, settings, setup)

    def init(key: jax.Array, distilled: Distilled) -> State:
        pool = pools.create(net, pool_optimizer, key, settings.pool_size)
        rates = Rates(Rate.start(settings.inner_rate), Rate.start(settings.inverse_rate))
        return State(outer.start(jax.random.fold_in(key, 0), distilled), pool, rates)

    def step(key: jax.Array, state: State, examples: Examples) -> tuple[State, Info]:
        batch = examples.batch(setup.classes)
        member_key, steps_key, visit_key, solve_key, augment_key = jax.random.split(key, 5)
        index = jax.random.randint(member_key, (), 0, settings.pool_size)
        transform = partial(augment, augment_key) if settings.augment else None
        set_up = partial(support, mirror=setup.mirror, transform=transform)
        network = pools.member(state.pool, index)
        distilled = outer.current(state.position)
        found = meta_gradient(net, settings, setup.l2_rate, set_up, network, state.rates, solve_key, distilled, batch)
        grad, rates, info = found
        position, statistics = outer.move(state.position, grad)
        visits = pools.Visits(pool_optimizer, settings.pool_age, settings.pool_batch_size)
        pool_steps = jax.random.randint(steps_key, (), min(1, settings.pool_steps), settings.pool_steps + 1)
        moved = set_up(outer.current(position))
        pool = pools.visit(net, visits, visit_key, state.pool, index, pool_steps, *moved)
        return State(position, pool, rates), info | statistics

    return Method(init, step, lambda state: outer.result(state.position), real_batches(setup))


def meta_gradient(
    net: Net,
    settings: Settings,
    l2_rate: float,
    set_up: Support,
    network: Variables,
    rates: Rates,
    key: jax.Array,
    distilled: Distilled,
    batch: Batch,
) -> tuple[Distilled, Rates, Info]:
    """Gradient of the outer loss (eq. 6) by the distilled set, at one network -> (gradient, adapted rates, info).

    It has a direct part, at fixed inner variables z, and an implicit part −∂/∂S ⟨∂L/∂z, H⁻¹g⟩ (section 3.3). Both come
    as cotangents of what each distilled image contributes, so that one backward pass per image ends them.
    """
    solve_key, images_key = jax.random.split(key)
    (x, y), pull_support = jax.vjp(set_up, distilled)
    problem = make_problem(net, settings, l2_rate * len(distilled.images), network, x, y)
    solved = _solve(problem, settings, rates, solve_key)
    shift, out = solved.weights.body, solved.outputs
    outer, g, temperature_grad = on_real(
        settings.outer_loss, partial(_logits, problem), solved.weights, distilled.log_temperature, batch
    )

    if settings.closed_form:
        direct_out, direct_y = inner.through_closed_form(problem, out, y, g.head)
        g = Weights(jax.tree.map(jnp.add, g.body, solved.pull(direct_out)), None)
    else:
        direct_out, direct_y = jax.tree.map(jnp.zeros_like, (out, y))
    v, inverse_info = solved.invert(g)
    tangent = solved.along(v.body)
    implicit = inner.through_stationarity(problem, solved.weights.head, v, out, tangent, y)
    implicit_out, implicit_tangent, implicit_y = jax.tree.map(jnp.negative, implicit)

    def backward(function: Any, cotangent: Any, labels: jax.Array) -> Distilled:
        images = _image_cotangents(problem, function, cotangent, images_key)
        return pull_support((images, labels))[0]

    def contributions(x: jax.Array) -> tuple[Outputs, Outputs]:
        return jax.jvp(lambda shift: problem.outputs(shift, x), (shift,), (v.body,))

    if settings.clip_implicit:
        direct = backward(partial(problem.outputs, shift), direct_out, direct_y)
        rest = backward(contributions, (implicit_out, implicit_tangent), implicit_y)
        grad = jax.tree.map(lambda a, b: a + _clipped(b, a), direct, rest)
    else:
        both = jax.tree.map(jnp.add, direct_out, implicit_out)
        grad = backward(contributions, (both, implicit_tangent), direct_y + implicit_y)
    grad = grad._replace(log_temperature=grad.log_temperature + temperature_grad)
    if settings.label_margin:
        grad = grad._replace(labels=grad.labels + jax.grad(label_margin)(distilled.labels))

    solver_info = solved.info | inverse_info
    rates = Rates(
        adapt(rates.inner, solver_info.pop("inner_losses", None)),
        adapt(rates.inverse, solver_info.pop("inverse_losses", None)),
    )
    return grad, rates, outer | {"log_temperature": distilled.log_temperature} | solver_info


def make_problem(net: Net, settings: Settings, l2: float, network: Variables, x: jax.Array, y: jax.Array) -> Problem:
    """The inner problem of a member of the family at one network."""
    statistics = network.get("batch_stats", {})
    features = partial(net.features, statistics=statistics)
    origin = Weights(network["params"]["body"], network["params"]["head"]["kernel"])
    zero = jax.tree.map(jnp.zeros_like, origin.body)
    if settings.body_weight == 0:
        outputs, zero = inner.fixed(features, origin), None
    elif settings.linearised:
        outputs = inner.linearised(features, origin)
    else:
        outputs = inner.moved(features, origin)
    # Linearised training is centred: it starts at a prediction of zero (section 3.2).
    head = jnp.zeros_like(origin.head) if settings.linearised else origin.head
    start = Weights(zero, None if settings.closed_form else head)
    # The first blocks of a boosted set may have fewer images.
    some = settings.backward_images if (settings.backward_images or 0) <= len(x) else None
    return Problem(
        outputs,
        backend.suited(cpu=inner.rows_by_image, accelerator=inner.rows_by_layer)(features, origin),
        start,
        x,
        y,
        l2,
        settings.body_weight,
        settings.float64_solve,
        some,
        settings.images_per_pass,
    )


def _solve(problem: Problem, settings: Settings, rates: Rates, key: jax.Array) -> Solved:
    if settings.body_weight == 0:
        return inner.final_layer_alone(problem)
    if settings.solver == "dense":
        return inner.exact(problem, inner.dense)
    if settings.solver == "cg":
        given = settings.cg_iterations
        until = (CG_MOST, CG_RESIDUAL) if given == "auto" else (given, 0.0)
        return inner.exact(problem, partial(inner.cg, *until))
    chosen = Rates(partial(choose, rates.inner), partial(choose, rates.inverse))
    return inner.adam(problem, settings.inner_steps, settings.inverse_steps, chosen, key)


def _logits(problem: Problem, weights: Weights, images: jax.Array) -> jax.Array:
    return inner.predict(problem.outputs(weights.body, images), weights.head)


def _image_cotangents(problem: Problem, function: Any, cotangent: Any, key: jax.Array) -> jax.Array:
    """The gradient by every image of what function makes of it; zero outside a random few if so asked."""

    def pull(images: Any) -> jax.Array:
        x, cotangent = images
        return jax.vjp(function, x)[1](cotangent)[0]

    if problem.backward_images is None:
        return map_images(pull, (problem.x, cotangent), problem.per_pass)
    images, index = inner.draw(key, problem.backward_images, (problem.x, cotangent))
    return jnp.zeros_like(problem.x).at[index].set(map_images(pull, images, problem.per_pass))


def _clipped(implicit: jax.Array, direct: jax.Array) -> jax.Array:
    """The implicit gradient of a leaf, no longer than the direct one (as in the public reference code)."""
    norm = jnp.maximum(optax.tree.norm(implicit), jnp.finfo(implicit.dtype).tiny)
    return implicit * jnp.minimum(1, optax.tree.norm(direct) / norm)


def label_margin(labels: jax.Array) -> jax.Array:
    """−mean min(y₍₁₎ − y₍₂₎, 1/(2C)): keeps the top label of an image ahead (as in the public reference code)."""
    best, second = jax.lax.top_k(labels, 2)[0].T
    return -jnp.minimum(best - second, 1 / (2 * labels.shape[1])).mean()
