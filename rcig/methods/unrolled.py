"""Back-propagation through inner training: RaT-BPTT (Feng et al. 2023), and BPTT and T-BPTT as settings of it.

A network is trained for N ≤ T steps on the distilled set. The gradient of its loss on real images goes back through the
last M of these steps alone: the steps before them are a loop that stores nothing, so memory grows with M and not with
T. `rat_bptt` draws N from {M, …, T} at every outer step, `t_bptt` has N = T, and `bptt` also M = T.

`at_bptt` (Li et al. 2025) draws the first step of the window by the norm that the gradient of the inner loss has there,
which a training without derivatives finds out before: large ones in the first third of the outer steps, small ones in
the last, and any in between.

What the papers leave open, or what is other here:

1.  `outer_loss`: that of RCIG with its learned temperature.
2.  `inner_loss`: the squared error; it has `cross_entropy` too.
3.  `average_decay`: the returned set is the average over the last steps, as for all methods.
4.  Adam's root has EPS_ROOT added, so that weights without a gradient have a derivative.
5.  The entries of params.yaml for a GPU have as many steps as those of RCIG, a boosted one for each block.
6.  `architecture`: `narrow_in` as in the paper, or the `conv` of this project.
7.  Held-out accuracy while distilling is by `loop.protocol`, which is that of RCIG unless an entry names another.
8.  `at_bptt`: chances are in proportion to the norm or its inverse, which the scale of the loss does not change (code
    of its paper: a softmax of the norms, and for small ones the place mirrored in the training). The thirds stand for
    thresholds on how fast the accuracy rises. The window keeps its length, and the Hessian is exact.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import optax

from rcig import train
from rcig.augment import augment
from rcig.errors import ParamsError
from rcig.fields import FRACTION, POSITIVE
from rcig.methods.base import Batch, Distilled, Info, Member, Method, Setup, support
from rcig.methods.descent import OuterDescent, Position, descend, on_real
from rcig.methods.feeds import Examples, real_batches
from rcig.nets import Net
from rcig.train import TrainState

EPS_ROOT = 1e-16
"""Keeps the derivative of Adam's square root finite where a weight has had no gradient, as behind a dead ReLU."""


@dataclass(frozen=True)
class Settings(OuterDescent):
    """Defaults are those of Feng et al. (2023) for CIFAR-10 with ten images per class."""

    learning_rate: Annotated[float, POSITIVE] = 1e-3
    """images and labels, Adam (paper: 1e-3; 3e-4 for CIFAR-100 with one image per class and Tiny-ImageNet)"""
    learning_rate_floor: Annotated[float, FRACTION] = 1.0
    """the cosine schedule ends at this fraction of the learning rates; 1 keeps them constant (paper)"""
    clip_gradient: Annotated[float, POSITIVE] | None = 2.0
    """no gradient longer than this times the running norm of those before it (paper: 2); null: none is"""
    architecture: Literal["conv", "narrow_in"] = "narrow_in"
    """of the network that is trained (paper: narrow_in of width 128)"""
    inner_steps: Annotated[int, POSITIVE] = 200
    """T: training steps of the network at most"""
    window: Annotated[int, POSITIVE] | None = 60
    """M: the last of these steps, through which the gradient goes; null: all"""
    window_end: Literal["random", "last", "gradients"] = "random"
    """the network is trained for a number of steps from M to T, drawn anew at every outer step: all alike, or by the
    norms of the inner gradients; or always for T"""
    inner_rate: Annotated[float, POSITIVE] = 1e-3
    """of Adam on the network's weights (paper: 1e-3)"""
    inner_loss: Literal["squared", "cross_entropy"] = "squared"
    """of the network on the distilled set"""
    inner_batch_size: Annotated[int, POSITIVE] | None = None
    """distilled images of an inner step; null: all"""
    augment: bool = True
    """one random transform per distilled image and inner step"""
    augment_real: bool = True
    """one random transform per real image"""
    rematerialise: bool = False
    """compute what the inner steps of the window need anew when going back: less memory, more time"""

    def __post_init__(self) -> None:
        if self.steps_back > self.inner_steps:
            raise ParamsError(
                f"window {self.window} is longer than the {self.inner_steps} inner_steps that it is a part of; lower it"
            )

    @property
    def steps_back(self) -> int:
        """M, as a number"""
        return self.inner_steps if self.window is None else self.window


MEMBERS = {
    "rat_bptt": Member({"window_end": "random"}),
    "t_bptt": Member({"window_end": "last"}),
    "bptt": Member({"window_end": "last", "window": None}),
    "at_bptt": Member({"window_end": "gradients"}, {"window": 40}),
}


def make(settings: Settings, setup: Setup) -> Method[Position, Examples, Distilled]:
    """The method for one run."""
    net = setup.network(settings.architecture)
    outer = descend(optax.adam, settings, setup)

    def step(key: jax.Array, position: Position, examples: Examples) -> tuple[Position, Info]:
        batch = examples.batch(setup.classes)
        end_key, unroll_key, real_key = jax.random.split(key, 3)
        distilled = outer.current(position)
        if settings.window_end == "gradients":
            norms = inner_norms(net, settings, setup.mirror, unroll_key, distilled)
            end = end_by_norms(end_key, norms, settings.steps_back, 3 * position.steps_done // setup.steps)
        else:
            earliest = settings.steps_back if settings.window_end == "random" else settings.inner_steps
            end = jax.random.randint(end_key, (), earliest, settings.inner_steps + 1)
        if settings.augment_real:
            batch = batch._replace(images=augment(real_key, batch.images))
        grad, info = meta_gradient(net, settings, setup.mirror, unroll_key, end, distilled, batch)
        position, statistics = outer.move(position, grad)
        return position, info | {"window_end": end} | statistics

    return Method(outer.start, step, outer.result, real_batches(setup))


def inner_norms(net: Net, settings: Settings, mirror: bool, key: jax.Array, distilled: Distilled) -> jax.Array:
    """Norm (T,) of the gradient of the inner loss by the weights at every step of the training that `key` gives."""
    start_key, steps_key = jax.random.split(key)
    optimizer = optax.chain(optax.snapshot("norm", optax.tree.norm), optax.adam(settings.inner_rate, eps_root=EPS_ROOT))
    advance = partial(_inner_step, net, settings, mirror, optimizer, steps_key, distilled)

    def body(state: TrainState, i: jax.Array) -> tuple[TrainState, Any]:
        state = advance(i, state)
        return state, optax.tree.get(state.optimizer, "norm")

    norms: jax.Array = jax.lax.scan(body, train.start(net, optimizer, start_key), jnp.arange(settings.inner_steps))[1]
    return norms


def end_by_norms(key: jax.Array, norms: jax.Array, steps_back: int, third: int | jax.Array) -> jax.Array:
    """The end of a window whose first step is drawn by the norms (T,), of those that leave room for it.

    In proportion to the norm in third 0 of the run, to its inverse in third 2, and all alike in third 1.
    """
    room = norms[: len(norms) - steps_back + 1]
    return steps_back + jax.random.categorical(key, (1 - third) * jnp.log(room + jnp.finfo(room.dtype).tiny))


def meta_gradient(
    net: Net,
    settings: Settings,
    mirror: bool,
    key: jax.Array,
    end: int | jax.Array,
    distilled: Distilled,
    batch: Batch,
) -> tuple[Distilled, Info]:
    """Gradient of the outer loss after inner step `end` by the distilled set, through the last M steps."""
    start_key, steps_key = jax.random.split(key)
    optimizer = optax.adam(settings.inner_rate, eps_root=EPS_ROOT)
    advance = partial(_inner_step, net, settings, mirror, optimizer, steps_key)
    first = end - settings.steps_back
    fresh = train.start(net, optimizer, start_key)
    reached = jax.lax.fori_loop(0, first, lambda i, state: advance(distilled, i, state), fresh)

    def window(distilled: Distilled) -> Any:
        def body(state: TrainState, i: jax.Array) -> tuple[TrainState, None]:
            return advance(distilled, first + i, state), None

        if settings.rematerialise:
            body = jax.checkpoint(body)
        return jax.lax.scan(body, reached, jnp.arange(settings.steps_back))[0].variables["params"]

    weights, pull = jax.vjp(window, distilled)
    logits = lambda weights, x: net.apply({"params": weights}, x)  # noqa: E731
    info, grad, temperature_grad = on_real(settings.outer_loss, logits, weights, distilled.log_temperature, batch)
    (found,) = pull(grad)
    return found._replace(log_temperature=temperature_grad), info | {"log_temperature": distilled.log_temperature}


def _inner_step(
    net: Net,
    settings: Settings,
    mirror: bool,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    distilled: Distilled,
    i: jax.Array,
    state: TrainState,
) -> TrainState:
    """Step i of the inner training, whose draws depend on i alone: the same in the window as before it."""
    batch_key, augment_key = jax.random.split(jax.random.fold_in(key, i))
    x, y = support(distilled, mirror)
    if settings.inner_batch_size is not None:
        x, y = train.draw(batch_key, settings.inner_batch_size, x, y)
    if settings.augment:
        x = augment(augment_key, x)
    return train.update(net, optimizer, state, x, y, LOSSES[settings.inner_loss])


LOSSES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "squared": train.mse,
    "cross_entropy": train.cross_entropy,
}
