"""From an architecture's name to a `Net` of pure functions."""

from collections.abc import Callable
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from rcig.backend import suited
from rcig.errors import ParamsError
from rcig.nets.classic import AlexNetBody, ResNet18Body, VGG11Body
from rcig.nets.conv import ConvBody
from rcig.nets.layers import OWN, BatchNorm, GroupNorm, lecun_normal
from rcig.nets.modern import EfficientNetB0Body, ViTBody

Variables = dict[str, Any]
"""{"params": {"body": …, "head": {"kernel" (H, C), "bias" (C,)}}, "batch_stats": …} (the last only with batch norm)."""


class Architecture(NamedTuple):
    """What is known of a network by its name."""

    body: Callable[..., nn.Module]
    width: int
    """the standard one"""
    batch_norm: bool = False
    """whether an image's logits depend on the other images of its batch in training"""
    depth: bool = False
    """whether `build` must be told the depth"""


ARCHITECTURES = {
    "conv": Architecture(ConvBody, 128, depth=True),
    "conv_bn": Architecture(partial(ConvBody, norm=BatchNorm), 128, batch_norm=True, depth=True),
    "conv_in": Architecture(partial(ConvBody, norm=GroupNorm), 128, depth=True),
    "conv_ln": Architecture(partial(ConvBody, norm=partial(GroupNorm, groups=1)), 128, depth=True),
    "conv_gn": Architecture(partial(ConvBody, norm=partial(GroupNorm, groups=4)), 128, depth=True),
    "narrow_in": Architecture(partial(ConvBody, norm=GroupNorm, narrow=True), 128, depth=True),
    "resnet18_bn": Architecture(ResNet18Body, 64, batch_norm=True),
    "resnet18_stem_bn": Architecture(partial(ResNet18Body, loo2023=True), 64, batch_norm=True),
    "vgg11_bn": Architecture(VGG11Body, 64, batch_norm=True),
    "vgg11_narrow": Architecture(partial(VGG11Body, loo2023=True), 128, batch_norm=True),
    "alexnet": Architecture(AlexNetBody, 128),
    "efficientnet_b0": Architecture(EfficientNetB0Body, 32, batch_norm=True),
    "vit_tiny": Architecture(ViTBody, 192),
}
WITH_DEPTH = tuple(name for name, kind in ARCHITECTURES.items() if kind.depth)


class Net(NamedTuple):
    """A classifier with C classes and H features before its final layer."""

    init: Callable[[jax.Array], Variables]
    """(key) -> variables"""
    apply: Callable[..., jax.Array]
    """(variables, images (n, h, w, c)) -> logits (n, C), with the running statistics of batch norm"""
    train: Callable[..., tuple[jax.Array, Variables]]
    """(variables, images) -> (logits, variables with new running statistics), with the batch's own statistics"""
    features: Callable[..., jax.Array]
    """(body parameters, images, statistics={}, own=None) -> features (n, H), with the running statistics of batch norm.

    `own`: of the networks WITH_DEPTH, zeros like the body's parameters for every image (n, …), for derivatives by them
    """


CPU_LANES = 8
"""On a CPU, layers take half the time or less where the number of images, their last axis, is a multiple of this."""


class Classifier(nn.Module):
    """A body and a final layer."""

    body: nn.Module
    classes: int
    alone: bool
    """whether an image's logits never depend on the other images of its batch, as they do with batch norm"""

    def setup(self) -> None:
        self.head = nn.Dense(self.classes, kernel_init=lecun_normal)

    def features(self, images: jax.Array, train: bool = False) -> jax.Array:
        """(n, h, w, c) -> what the final layer sees, (n, H)."""
        count = len(images)
        if self.alone and count > 2:
            images = jnp.pad(images, ((0, -count % suited(cpu=CPU_LANES, accelerator=1)), (0, 0), (0, 0), (0, 0)))
        return self.body(images.transpose(3, 1, 2, 0), train).reshape(-1, len(images)).T[:count]

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        return self.head(self.features(images, train))


def build(architecture: str, shape: tuple[int, int, int], classes: int, **body: Any) -> Net:
    """The named network for images of `shape` (h, w, c).

    `body`: what its body module takes, `width` (the standard one if not given) and for the networks `WITH_DEPTH` also
    `depth` and `temperature`.
    """
    if architecture not in ARCHITECTURES:
        raise ParamsError(f"Unknown architecture {architecture!r}; known: {', '.join(ARCHITECTURES)}")
    kind = ARCHITECTURES[architecture]
    module = Classifier(kind.body(**{"width": kind.width} | body), classes, alone=not kind.batch_norm)

    def init(key: jax.Array) -> Variables:
        return dict(module.init(key, jnp.zeros((1, *shape))))

    def apply(variables: Variables, images: jax.Array) -> jax.Array:
        logits: jax.Array = module.apply(variables, images)  # type: ignore[assignment]
        return logits

    def train(variables: Variables, images: jax.Array) -> tuple[jax.Array, Variables]:
        logits, statistics = module.apply(variables, images, train=True, mutable=["batch_stats"])
        return logits, variables | dict(statistics)

    def features(body: Any, images: jax.Array, statistics: Any = MappingProxyType({}), own: Any = None) -> jax.Array:
        variables = {"params": {"body": body}, "batch_stats": dict(statistics)}
        if own is not None:
            variables[OWN] = {"body": own}
        phi: jax.Array = module.apply(variables, images, method="features")  # type: ignore[assignment]
        return phi

    # Compiled each for itself, they are traced once for all their uses in a step, whatever is derived from them.
    return Net(jax.jit(init), jax.jit(apply), jax.jit(train), jax.jit(features))


def at_precision(net: Net, precision: str) -> Net:
    """The network with its products, forwards and backwards, at that precision, see rcig.run.settings.Loop."""
    if precision == "auto":
        precision = suited(cpu="float32", accelerator="tensorfloat32")

    def at(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            with jax.default_matmul_precision(precision):
                return function(*arguments, **more)

        return call

    return Net(at(net.init), at(net.apply), at(net.train), at(net.features))
