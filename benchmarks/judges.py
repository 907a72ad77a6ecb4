"""How judges on held-out images rank distilled sets, beside the protocol on the test split.

    python -m benchmarks.judges cifar10 judged.csv released/cifar10-ipc1-*.npz

Every set is judged by every judge, and judged.csv, one row for each, is added to: what it has is not judged again. The
dataset must be prepared. Prints, for every judge, rank correlations (Spearman's, Kendall's) with the protocol, and how
many of the pairs that the protocol sets more than a point apart it has in the other order.
"""

import argparse
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.machine import run
from rcig import nets, passes, plan, planned, train, whiten
from rcig.data import real, splits
from rcig.judging.protocols import PROTOCOLS
from rcig.methods.base import Distilled, support

TRUTH = "protocol"
APART = 0.01


class Judge(NamedTuple):
    schedule: train.Schedule
    networks: int
    width: int
    held_out: bool


def judges(images: int, width: int, wide: int) -> dict[str, Judge]:
    """The protocol loo2023 and, at about equal cost, shorter ones and the judge of the first edition."""
    whole = PROTOCOLS["loo2023"].schedule(images)
    short = {
        f"{steps} steps, {networks} networks": Judge(train.shortened(whole, steps), networks, width, held_out=True)
        for steps, networks in ((600, 1), (300, 2), (150, 4))
    }
    first = train.Schedule(300, train.adam(warmup=0.1), 1e-3, whole.batch_size)
    slow = whole._replace(steps=300)
    return {
        TRUTH: Judge(whole, 2, wide, held_out=False),
        "300 steps at 1e-3, 2 networks": Judge(first, 2, width, held_out=True),
        "300 steps at 1e-4, 2 networks": Judge(slow, 2, width, held_out=True),
        **short,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("table", type=Path)
    parser.add_argument("sets", type=Path, nargs="+")
    parser.add_argument("--width", type=int, default=32, help="of the judges' networks")
    parser.add_argument("--wide", type=int, default=64, help="of the protocol's")
    options = parser.parse_args()
    known = pd.read_csv(options.table) if options.table.exists() else pd.DataFrame(columns=["set", "judge"])
    for row in rows(options, set(zip(known["set"], known["judge"], strict=True))):
        pd.DataFrame([row]).to_csv(options.table, mode="a", header=not options.table.exists(), index=False)
    print(agreement(pd.read_csv(options.table)).to_string(index=False, float_format="%.3f"))


def rows(options: argparse.Namespace, known: set[tuple[str, str]]) -> Iterator[dict[str, str | float]]:
    """What every judge says of every set, where that is not known."""
    dataset = plan.read(planned.PARAMS)[0].datasets[options.dataset]
    loaded = real.load_real(options.dataset, dataset)
    test = splits.whole(real.load_split(options.dataset, "test")[0])
    sets = {f"{path.stem}-{i}": one for path in options.sets for i, one in enumerate(read(path))}
    images = len(next(iter(sets.values())).images)
    for name, judge in judges(images, options.width, options.wide).items():
        net = nets.build("conv", dataset.shape, dataset.classes, width=judge.width, depth=dataset.depth)
        fit = train.trainer(net, judge.schedule, judge.networks)
        outputs = train.tester(net, whiten.on_device(loaded.whitening))
        on = loaded.held_out if judge.held_out else test
        for which, one in sets.items():
            if (which, name) not in known:
                start = time.process_time()
                with jax.set_mesh(passes.all_devices()):
                    trained = fit(jax.random.key(0), *support(one, dataset.mirror))
                    value = float(np.mean(train.accuracy(outputs(trained, on), on.labels)))
                yield {"set": which, "judge": name, "accuracy": value, "cpu_seconds": time.process_time() - start}


def read(path: Path) -> list[Distilled]:
    """The sets of a file, one for each seed."""
    with np.load(path) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    return [Distilled(jnp.asarray(x), jnp.asarray(y), jnp.zeros(())) for x, y in zip(images, labels, strict=True)]


def agreement(judged: pd.DataFrame) -> pd.DataFrame:
    """One row per judge, of rows (set, judge, accuracy, cpu_seconds)."""
    table = judged.pivot(index="set", columns="judge", values="accuracy").dropna()
    cost = judged.groupby("judge")["cpu_seconds"].median().to_dict()
    truth = table.pop(TRUTH)
    pairs = [(a, b) for a, b in itertools.combinations(table.index, 2) if abs(truth[a] - truth[b]) > APART]
    found = []
    for name in table:
        said = table[name]
        wrong = sum((said[a] - said[b]) * (truth[a] - truth[b]) < 0 for a, b in pairs)
        found.append(
            {
                "judge": name,
                "sets": len(table),
                "spearman": stats.spearmanr(said, truth).statistic,
                "kendall": stats.kendalltau(said, truth).statistic,
                "wrong pairs": f"{wrong} of {len(pairs)}",
                "cpu_seconds": cost[str(name)],
            }
        )
    return pd.DataFrame(found)


if __name__ == "__main__":
    run(main)
