"""attack EXPERIMENT: membership inference against networks on real members, a real subset and the distilled set.

Example: python -m stages.attack mnist_sample-ipc1-rcig
"""

from rcig import planned, rows
from rcig.judging import subject
from rcig.judging.membership import Entry, attack
from stages.common import DISTILLED, RESULTS, run


def main(name: str) -> None:
    entry, code = planned.read("attack", name, Entry)
    found = attack(subject.load(DISTILLED / f"{name}.npz", entry.judged, entry.dataset), entry.attack)
    rows.save(RESULTS / "attack" / f"{name}.csv", name, found, code)


if __name__ == "__main__":
    run(main)
