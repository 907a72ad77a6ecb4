"""Networks as pure functions. The only package that imports Flax.

Images enter as (n, height, width, channels); layers work on (channels, height, width, n), see `layers`.
"""

from rcig.nets.build import ARCHITECTURES, Net, Variables, build

__all__ = ["ARCHITECTURES", "Net", "Variables", "build"]
