"""EfficientNet-B0 and a small Vision Transformer for images of 28 to 224 pixels, on (C, H, W, N).

Differences from the originals:
1. EfficientNet-B0 (Tan & Le 2019): the stem has stride 1, customary for small images. Neither dropout nor stochastic
   depth. Convolutions of stride 2 are padded alike on all sides. Batch norm has momentum 0.9 and ε = 1e-5 in place of
   0.99 and 1e-3, for short training as in the other networks here; weights are LeCun-normal.
2. Vision Transformer (Dosovitskiy et al. 2021) of the size DeiT-Ti (Touvron et al. 2021), without dropout, stochastic
   depth and distillation token: patches of 4 pixels a side for images of 28 or 32 pixels, 8 for 64, 16 from 112 on.
   Weights are LeCun-normal, class token and positions normal with deviation 0.02; the GELU is the exact one.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from rcig.errors import ParamsError
from rcig.nets.layers import BatchNorm, Conv, DepthwiseConv

STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
"""Tan & Le (2019), table 1: expansion, size of the depthwise kernel, stride of the first block, filters, blocks."""


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, squeeze and excitation, projection (MBConv of Tan & Le 2019)."""

    filters: int
    expansion: int
    size: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        inputs, y = x.shape[0], x
        if self.expansion > 1:
            y = Conv(inputs * self.expansion, size=1, padding=0, bias=False)(y)
            y = nn.swish(BatchNorm()(y, train))
        y = nn.swish(BatchNorm()(DepthwiseConv(self.size, self.stride)(y), train))
        y = SqueezeExcitation(inputs // 4)(y)
        y = BatchNorm()(Conv(self.filters, size=1, padding=0, bias=False)(y), train)
        return x + y if self.stride == 1 and self.filters == inputs else y


class SqueezeExcitation(nn.Module):
    """Channels scaled by a function of their means (Hu et al. 2018)."""

    filters: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.swish(Conv(self.filters, size=1, padding=0)(x.mean((1, 2), keepdims=True)))
        return x * nn.sigmoid(Conv(x.shape[0], size=1, padding=0)(y))


class EfficientNetB0Body(nn.Module):
    """`width`: filters of the stem, 32 in B0. All others are scaled alike, see `scaled`."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = nn.swish(BatchNorm()(Conv(scaled(32, self.width), bias=False)(x), train))
        for expansion, size, stride, filters, blocks in STAGES:
            for block in range(blocks):
                first = stride if block == 0 else 1
                x = InvertedResidual(scaled(filters, self.width), expansion, size, first)(x, train)
        x = nn.swish(BatchNorm()(Conv(scaled(1280, self.width), size=1, padding=0, bias=False)(x), train))
        return x.mean((1, 2))


def scaled(filters: int, width: int) -> int:
    """filters · width/32 as a multiple of 8: the nearest, at least 8, the next where that is over a tenth too few."""
    exact = filters * width / 32
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * exact else rounded


class EncoderBlock(nn.Module):
    """Self-attention and a perceptron with one hidden layer, each after layer norm and added to x (N, tokens, D)."""

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + nn.MultiHeadDotProductAttention(self.heads)(nn.LayerNorm()(x))
        y = nn.Dense(4 * x.shape[-1])(nn.LayerNorm()(x))
        return x + nn.Dense(x.shape[-1])(nn.gelu(y, approximate=False))


class ViTBody(nn.Module):
    """12 encoder blocks of `width` features with a head for every 64 of them; the features of the class token."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        heads = max(1, self.width // 64)
        if self.width % heads:
            raise ParamsError(f"Expected width={self.width} to divide by its {heads} heads, as multiples of 64 do")
        patch = patch_side(x.shape[1])
        x = Conv(self.width, size=patch, stride=patch, padding=0)(x)
        x = x.reshape(self.width, -1, x.shape[-1]).transpose(2, 1, 0)
        normal = nn.initializers.normal(0.02)
        token = self.param("class_token", normal, (self.width,))
        x = jnp.concatenate([jnp.broadcast_to(token, (len(x), 1, self.width)), x], axis=1)
        x = x + self.param("positions", normal, x.shape[1:])
        for _ in range(12):
            x = EncoderBlock(heads)(x)
        return nn.LayerNorm()(x[:, 0]).T


def patch_side(side: int) -> int:
    """The largest power of two, 16 at most, that gives 7 patches or more along `side` pixels."""
    return min(16, 1 << ((side // 7).bit_length() - 1))
