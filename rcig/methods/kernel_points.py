"""Kernel inducing points: KIP and Label Solve (Nguyen et al. 2021a, and 2021b with convolutional networks).

A set is fitted by kernel ridge regression, with the kernel of an infinitely wide network: no network is ever trained.
`kip` moves images and labels along the gradient of what the fit says of real images. `label_solve` leaves the images as
they are and finds the labels with the least squared error on all real images that its steps have seen, in closed form.

What differs from the papers and their code:

1.  `architecture`: the networks have no pooling. With it a kernel needs all pairs of pixels, which took days of GPUs.
2.  `learning_rate_floor`, `average_decay`: the rate falls and the returned set is an average, as for all methods.
3.  `outer_loss: platt` is there too, as in RFAD.
4.  Where networks see every distilled image together with its mirror image (`mirror` of a dataset), so does the fit.
5.  Labels of `label_solve` come from a QR factor that every batch updates, so the real images are never held at once,
    nor are their products, which would square the condition. A batch that fills up no pass is left out of it: give a
    batch size that divides the images, and as many steps as one pass has.
6.  All is in 32 bits; the code of the paper takes 64.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.scipy.linalg import cho_factor, cho_solve

from rcig import ntk, resources
from rcig.errors import ParamsError
from rcig.fields import POSITIVE
from rcig.methods.base import Batch, Distilled, Info, Member, Method, Setup, support
from rcig.methods.descent import OuterDescent, descend, on_real
from rcig.methods.feeds import Examples, real_batches

Kernel = Callable[[jax.Array, jax.Array], jax.Array]
"""(images (n, h, w, c), images (m, h, w, c)) -> (n, m)"""


@dataclass(frozen=True)
class Settings(OuterDescent):
    """Defaults are those of the public code, with labels that are learned."""

    labels_alone: bool = False
    """solve for the labels in closed form and leave the images as they are"""
    kernel: Literal["ntk", "nngp"] = "ntk"
    """of a network all of whose layers are trained, or the last alone (paper: ntk)"""
    architecture: ntk.Architecture = "conv"
    """of the infinitely wide network: convolutional without pooling, or fully connected (code of the paper: dense)"""
    depth: Annotated[int, POSITIVE] = 3
    """hidden layers (papers: 3 convolutional ones; code of the first: 1)"""
    ridge_weight: Annotated[float, POSITIVE] = 1e-6
    """ridge as a part of the mean of the kernel's diagonal (paper: 1e-6)"""
    learning_rate: Annotated[float, POSITIVE] = 0.04
    """images and labels, Adam (paper: 4e-2)"""
    outer_loss: Literal["platt", "squared"] = "squared"
    """cross-entropy of logits times a learned temperature, or squared error to centred labels (paper: squared)"""


MEMBERS = {"kip": Member({"labels_alone": False}), "label_solve": Member({"labels_alone": True})}


def make(settings: Settings, setup: Setup) -> Method[Any, Examples, Distilled]:
    """The method for one run. Raises TooLargeError for a set whose kernel does not fit in memory."""
    check_size(settings, setup)

    def kernel(a: jax.Array, b: jax.Array) -> jax.Array:
        found: jax.Array = getattr(ntk.kernels(a, b, settings.architecture, settings.depth), settings.kernel)
        return found

    return (label_solve if settings.labels_alone else kip)(kernel, settings, setup)


def check_size(settings: Settings, setup: Setup) -> None:
    """Raise TooLargeError for a set whose kernel does not fit in memory, before anything of it is made."""
    places = math.prod(setup.shape[:2]) if settings.architecture == "conv" else 1
    what = f"kernel of {setup.support} images"
    # The kernel and that of the gradient, in float32.
    resources.refuse(what, "images_per_class", 2 * 4 * setup.support**2 * places, resources.available())


class Fit(NamedTuple):
    """Predictions are products of the kernel with the images."""

    images: jax.Array
    """(n, h, w, c)"""
    weights: jax.Array
    """(n, C)"""


def fit(kernel: Kernel, ridge_weight: float, images: jax.Array, labels: jax.Array) -> Fit:
    """Kernel ridge regression of labels (n, C), or of any columns, on images (n, h, w, c)."""
    matrix = kernel(images, images)
    ridge = ridge_weight * jnp.trace(matrix) / len(images)
    return Fit(images, cho_solve(cho_factor(matrix + ridge * jnp.eye(len(images), dtype=matrix.dtype)), labels))


def kip(kernel: Kernel, settings: Settings, setup: Setup) -> Method[Any, Examples, Distilled]:
    """Images and labels by descent."""
    outer = descend(optax.adam, settings, setup)

    def step(key: jax.Array, position: Any, examples: Examples) -> tuple[Any, Info]:
        batch = examples.batch(setup.classes)
        grad, info = meta_gradient(kernel, settings, setup.mirror, outer.current(position), batch)
        position, statistics = outer.move(position, grad)
        return position, info | statistics

    return Method(outer.start, step, outer.result, real_batches(setup))


def meta_gradient(
    kernel: Kernel, settings: Settings, mirror: bool, distilled: Distilled, batch: Batch
) -> tuple[Distilled, Info]:
    """Gradient of the outer loss of the fit by the distilled set."""
    fitted, pull = jax.vjp(lambda one: fit(kernel, settings.ridge_weight, *support(one, mirror)), distilled)
    logits = lambda fitted, x: kernel(x, fitted.images) @ fitted.weights  # noqa: E731
    info, grad, temperature_grad = on_real(settings.outer_loss, logits, fitted, distilled.log_temperature, batch)
    (found,) = pull(grad)
    return found._replace(log_temperature=temperature_grad), info


class Solving(NamedTuple):
    """Least squares A y = t over the real images seen so far."""

    distilled: Distilled
    """as the run began"""
    fit: Fit
    """of each distilled label alone: weights (n, labels), so that predictions are linear in the labels"""
    factor: jax.Array
    """R (labels + C, labels + C) of a QR factorisation of the rows [A t]"""
    seen: jax.Array
    """() real images"""


def label_solve(kernel: Kernel, settings: Settings, setup: Setup) -> Method[Solving, Examples, Distilled]:
    """Labels in closed form. Raises ParamsError for a set of a basis and a boosted one, whose labels are not free."""
    if setup.basis is not None or setup.mobility is not None:
        raise ParamsError("label_solve solves for all labels at once; set basis: null and boost: null")
    labels = setup.images

    def init(key: jax.Array, initial: Distilled) -> Solving:
        each = initial._replace(labels=jnp.eye(labels, dtype=initial.labels.dtype))
        columns = labels + setup.classes
        factor = jnp.zeros((columns, columns), initial.labels.dtype)
        return Solving(initial, fit(kernel, settings.ridge_weight, *support(each, setup.mirror)), factor, jnp.zeros(()))

    def step(key: jax.Array, state: Solving, examples: Examples) -> tuple[Solving, Info]:
        targets = jax.nn.one_hot(examples.labels, setup.classes, dtype=state.factor.dtype) - 1 / setup.classes
        rows = jnp.concatenate([kernel(examples.images, state.fit.images) @ state.fit.weights, targets], axis=1)
        factor = jnp.linalg.qr(jnp.concatenate([state.factor, rows]), mode="r")
        seen = state.seen + len(rows)
        # What is left of the targets: the squared error of the best labels.
        loss = (factor[labels:, labels:] ** 2).sum() / 2 / seen
        return state._replace(factor=factor, seen=seen), {"loss": loss}

    def result(state: Solving) -> Distilled:
        found, *_ = jnp.linalg.lstsq(state.factor[:labels, :labels], state.factor[:labels, labels:])
        return state.distilled._replace(labels=found)

    return Method(init, step, result, real_batches(setup))
