"""Networks as pure functions. The only package that imports Flax.

Images enter as (n, height, width, channels); layers work on (channels, height, width, n), see `layers`.
"""

from rcig.nets.build import ARCHITECTURES, WITH_DEPTH, Net, Variables, build

__all__ = ["ARCHITECTURES", "WITH_DEPTH", "Net", "Variables", "build"]
