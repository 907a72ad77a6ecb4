"""Networks as pure functions. The only package that imports Flax.

Images enter as (n, height, width, channels); layers work on (channels, height, width, n), see `layers`.

The architectures, with their standard widths and their parameters for 32×32×3 and 10 classes at these:

| name             | width | parameters | what                                                      |
|------------------|------:|-----------:|-----------------------------------------------------------|
| conv             |   128 |  1,560,842 | ConvNet of Loo et al. (2023): widths w, 2w, 4w, no norm   |
| conv_bn          |   128 |  1,562,634 | the same with batch norm                                  |
| conv_in          |   128 |  1,562,634 | the same with instance norm                               |
| conv_ln          |   128 |  1,562,634 | the same with layer norm                                  |
| conv_gn          |   128 |  1,562,634 | the same with group norm, 4 groups                        |
| narrow_in        |   128 |    320,010 | ConvNet of Zhao & Bilen (2021): width w, instance norm    |
| resnet18_bn      |    64 | 11,173,962 | ResNet-18, batch norm throughout                          |
| resnet18_stem_bn |    64 | 11,241,290 | as in the code of Loo et al.: batch norm in the stem only |
| vgg11_bn         |    64 |  9,231,114 | VGG-11, batch norm throughout                             |
| vgg11_narrow     |   128 |  1,040,010 | as in the code of Loo et al.: width w throughout          |
| alexnet          |   128 |  1,872,202 | AlexNet                                                   |
| efficientnet_b0  |    32 |  4,020,358 | EfficientNet-B0, stem of stride 1                         |
| vit_tiny         |   192 |  5,362,762 | Vision Transformer of the size DeiT-Ti                    |
"""

from rcig.nets.build import ARCHITECTURES, WITH_DEPTH, Net, Variables, at_precision, build
from rcig.nets.conv import padding

__all__ = ["ARCHITECTURES", "WITH_DEPTH", "Net", "Variables", "at_precision", "build", "padding"]
