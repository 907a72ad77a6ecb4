"""The convolutional network of the dataset-distillation literature (Loo et al. 2023, appendix C).

Differences of its norms from other code of that literature:
1. Layer norm normalises over channels, height and width like that of Zhao & Bilen (2021), but learns one scale and
   shift per channel; theirs learns one per element. The public code of Loo et al. (2023) has this form as `group1`;
   its `layer` normalises over the channels of every single pixel.
2. Group norm has 4 groups as in Zhao & Bilen (2021); Loo et al. (2023) keep Flax's 32.
3. The running statistics of batch norm have momentum 0.9; Loo et al. (2023) give Flax 0.1, its complement.
"""

from collections.abc import Callable

import jax
from flax import linen as nn

from rcig.nets.layers import Conv, avg_pool, softplus


class ConvBody(nn.Module):
    """`depth` stages of 3×3 convolution, normalisation, activation and 2×2 average pooling.

    Widths w, 2w, 4w, …, or w in every stage where it is `narrow` (Zhao & Bilen 2021 and most of the field).

    Grey images get 2 more pixels of padding in the first convolution (28 → 32).
    """

    width: int
    depth: int = 3
    temperature: float = 0.0
    norm: Callable[[], Callable[[jax.Array, bool], jax.Array]] | None = None
    narrow: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for stage in range(self.depth):
            filters = self.width * (1 if self.narrow else 2**stage)
            x = Conv(filters, padding=padding(stage, x.shape[0]))(x)
            if self.norm is not None:
                x = self.norm()(x, train)
            x = avg_pool(softplus(self.temperature)(x))
        return x


def padding(stage: int, channels: int) -> int:
    """Of the convolution of a stage of the body, whose input has so many channels."""
    return 3 if stage == 0 and channels == 1 else 1
