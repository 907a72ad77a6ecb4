"""cross_arch EXPERIMENT: test accuracy of other architectures trained on the distilled set.

Each with the learning rate that is best on held-out training images, for the set of the first seed.

Example: python -m stages.cross_arch mnist_sample-ipc1-rcig
"""

from rcig import planned, rows
from rcig.data.real import load_parts
from rcig.judging import subject
from rcig.judging.cross_architecture import Entry, by_architecture, some
from stages.common import DISTILLED, RESULTS, run


def main(name: str) -> None:
    entry, code = planned.read("cross_arch", name, Entry)
    judged = subject.load(DISTILLED / f"{name}.npz", entry.judged, entry.dataset)
    _, held_out, _ = load_parts(entry.judged.dataset, entry.dataset)
    found = [
        row
        for architecture, width in entry.cross_arch.widths.items()
        for row in by_architecture(judged, entry.cross_arch, architecture, width, some(held_out))
    ]
    rows.save(RESULTS / "cross_arch" / f"{name}.csv", name, found, code)


if __name__ == "__main__":
    run(main)
