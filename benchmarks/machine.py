"""What the machine can do: the scale against which the other benchmarks quote their times."""

import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rcig.errors import Foreseen


def run(main: Callable[[], None]) -> None:
    """Call main. A foreseen error ends the process with one line and status 1."""
    try:
        main()
    except Foreseen as error:
        sys.exit(f"error: {error}")


def seconds(run: Callable[[], Any], repeats: int) -> float:
    """Median time of a call, after one that does not count."""
    jax.block_until_ready(run())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def matmul_gflops(precision: str = "float32") -> float:
    """Matrix products of float32 arrays: 10⁹ operations a second, the ceiling of a machine at that precision."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    a = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(lambda a: jnp.matmul(a, a, precision=precision))
    return 2 * size**3 / seconds(lambda: product(a), 9) / 1e9


def peak_rss_mib() -> float:
    """Largest resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
