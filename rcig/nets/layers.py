"""Convolution and pooling in the layout (channels, height, width, images).

Images come last because that is the fast layout on a CPU: every shifted view that a convolution needs is then a copy
of long contiguous runs. On a GPU the logical order costs nothing, XLA chooses the physical one.
"""

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from rcig.errors import ParamsError

LAYOUT = ("CHWN", "HWIO", "CHWN")


def conv_lax(x: jax.Array, kernel: jax.Array, stride: int, padding: int) -> jax.Array:
    """The convolution of XLA: fast on GPUs, but some forty times slower inside loops on CPUs.

    A kernel for fewer channels than x has is that of a grouped convolution: (h, w, 1, C) of a depthwise one.
    """
    groups = x.shape[0] // kernel.shape[2]
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=LAYOUT, feature_group_count=groups
    )


def conv_patches(x: jax.Array, kernel: jax.Array, stride: int, padding: int) -> jax.Array:
    """The same sums as one matrix product over concatenated shifted views: fast on CPUs, inside loops too.

    Shifts along columns first, then along rows: faster than all shifts at once, forwards and backwards.
    """
    filters = kernel.shape[-1]
    x, down, across = prepare(x, kernel, stride, padding)
    x = jnp.concatenate([x[:, :, view] for view in across])
    x = jnp.concatenate([x[:, view] for view in down])
    patches = x.reshape(kernel.size // filters, -1)
    return (kernel.reshape(-1, filters).T @ patches).reshape(filters, *x.shape[1:])


def depthwise_shifts(x: jax.Array, kernel: jax.Array, stride: int, padding: int) -> jax.Array:
    """A depthwise convolution as a sum of shifted products: fast on CPUs, inside loops too.

    Shifts along columns first, then those of the sums along rows: fewer views, half the time to compile.
    """
    x, down, across = prepare(x, kernel, stride, padding)
    columns = [x[:, :, view] for view in across]
    sums = [reduce(jnp.add, map(jnp.multiply, weights, columns)) for weights in kernel[:, :, 0, :, None, None, None]]
    return reduce(jnp.add, (of_row[:, view] for of_row, view in zip(sums, down, strict=True)))


def prepare(x: jax.Array, kernel: jax.Array, stride: int, padding: int) -> tuple[jax.Array, list[slice], list[slice]]:
    """x with zeros around it, and which of its rows and columns every row and every column of the kernel meets."""
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    down, across = (
        [slice(i, length - size + i + 1, stride) for i in range(size)]
        for length, size in zip(x.shape[1:3], kernel.shape[:2], strict=True)
    )
    return x, down, across


def conv(x: jax.Array, kernel: jax.Array, stride: int = 1, padding: int = 0) -> jax.Array:
    """2-D convolution of x (C, H, W, N) with kernel (h, w, C, filters) -> (filters, H', W', N).

    `padding` pixels of zeros are added on all four sides. The form is chosen by the backend; both compute the same.
    """
    form = conv_patches if jax.default_backend() == "cpu" else conv_lax
    return form(x, kernel, stride, padding)


def depthwise(x: jax.Array, kernel: jax.Array, stride: int = 1, padding: int = 0) -> jax.Array:
    """2-D convolution of every channel of x (C, H, W, N) with its own kernel (h, w, 1, C) -> (C, H', W', N).

    `padding` and the choice of the form are those of `conv`.
    """
    form = depthwise_shifts if jax.default_backend() == "cpu" else conv_lax
    return form(x, kernel, stride, padding)


def lecun_normal(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Weights (…, filters) of variance 1 / fan-in, a normal distribution cut at two deviations: the numbers of Flax's.

    They are drawn in one row and then take their shape, which a CPU compiles in an eighth of the time.
    """
    flat = jax.random.truncated_normal(key, -2, 2, (math.prod(shape),), dtype)
    cut = jnp.asarray(0.87962566103423978, dtype)  # deviation of what is left of a normal distribution so cut
    return flat.reshape(shape) * (jnp.sqrt(jnp.asarray(1 / math.prod(shape[:-1]), dtype)) / cut)


class Conv(nn.Module):
    """A convolution layer on (C, H, W, N) with LeCun-normal weights."""

    filters: int
    size: int = 3
    stride: int = 1
    padding: int = 1
    bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.size, self.size, x.shape[0], self.filters)
        y = conv(x, self.param("kernel", lecun_normal, shape), self.stride, self.padding)
        if not self.bias:
            return y
        return y + self.param("bias", nn.initializers.zeros_init(), (self.filters,))[:, None, None, None]


class DepthwiseConv(nn.Module):
    """A depthwise convolution layer on (C, H, W, N) with LeCun-normal weights and as much padding as keeps the size."""

    size: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.size, self.size, 1, x.shape[0])
        kernel = self.param("kernel", lecun_normal, shape)
        return depthwise(x, kernel, self.stride, self.size // 2)


def avg_pool(x: jax.Array, size: int = 2) -> jax.Array:
    """Mean over size×size windows of (C, H, W, N) that do not overlap; rows and columns left over are dropped."""
    return reduce(jnp.add, corners(x, size)) / size**2


def max_pool(x: jax.Array, size: int = 2) -> jax.Array:
    """Maximum over size×size windows of (C, H, W, N) that do not overlap."""
    return reduce(jnp.maximum, corners(x, size))


def corners(x: jax.Array, size: int) -> list[jax.Array]:
    """Every window's first pixel, second pixel, …: strided views fuse with what is around them, reductions do not."""
    height, width = x.shape[1] // size * size, x.shape[2] // size * size
    return [x[:, i:height:size, j:width:size] for i in range(size) for j in range(size)]


def softplus(temperature: float) -> Callable[[jax.Array], jax.Array]:
    """A smooth ReLU, softplus(t·x)/t (Loo et al. 2023, section 4: t = 60); t = 0 is ReLU itself.

    The derivative is given as the sigmoid that it is: cheaper than what JAX derives from logaddexp.
    """
    if temperature == 0:
        return nn.relu

    @jax.custom_jvp
    def smooth(x: jax.Array) -> jax.Array:
        return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-temperature * jnp.abs(x))) / temperature

    @smooth.defjvp
    def tangent(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
        (x,), (dx,) = primals, tangents
        return smooth(x), jax.nn.sigmoid(temperature * x) * dx

    return smooth


class BatchNorm(nn.Module):
    """Batch normalisation over all but the channels; running statistics with momentum 0.9."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return nn.BatchNorm(use_running_average=not train, momentum=0.9, axis=0)(x)


class GroupNorm(nn.Module):
    """Normalisation over each group of channels of every image (Wu & He 2018), scale and shift learned per channel.

    One group of all channels is layer norm, a group for every channel (`groups` None) is instance norm.
    """

    groups: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        channels = x.shape[0]
        groups = self.groups or channels
        if channels % groups:
            raise ParamsError(f"Expected the width of a network with group norm to divide by {groups}, got {channels}")
        y = x.reshape(groups, -1, *x.shape[1:])
        y = (y - y.mean((1, 2, 3), keepdims=True)) * jax.lax.rsqrt(y.var((1, 2, 3), keepdims=True) + 1e-5)
        scale = self.param("scale", nn.initializers.ones_init(), (channels,))
        shift = self.param("bias", nn.initializers.zeros_init(), (channels,))
        return y.reshape(x.shape) * scale[:, None, None, None] + shift[:, None, None, None]
