"""evaluate EXPERIMENT: test accuracy of networks trained on the distilled set, and on parts of it, by each protocol.

What the networks of the first protocol predict is kept for every test image. The mean accuracy by protocol is what
`dvc metrics` shows.

Example: python -m stages.evaluate mnist_sample-ipc1-rcig
"""

from rcig import planned, predictions, rows, store
from rcig.judging import subject
from rcig.judging.evaluate import Entry, by_protocol
from stages.common import DISTILLED, RESULTS, run


def main(name: str) -> None:
    entry, code = planned.read("evaluate", name, Entry)
    settings, whole = entry.evaluate, subject.load(DISTILLED / f"{name}.npz", entry.judged, entry.dataset)
    found = {protocol: by_protocol(whole, settings, protocol) for protocol in settings.protocols}
    parts = [
        by_protocol(part, settings, protocol)
        for part in map(whole.part, settings.parts)
        for protocol in settings.protocols
    ]
    folder = RESULTS / "evaluate"
    every = [row for one in [*found.values(), *parts] for row in one.rows]
    rows.save(folder / f"{name}.csv", name, every, code)
    first = next(iter(found.values()))
    predictions.save(folder / f"{name}-predictions.npz", first.predicted, whole.test.labels, whole.class_names)
    means = {protocol: one.accuracy for protocol, one in found.items()}
    store.save_json(folder / f"{name}.json", {"accuracy": means, "code": code})
    said = ", ".join(f"{protocol} {100 * accuracy:.1f} %" for protocol, accuracy in means.items())
    print(f"{name}: test accuracy {said} ({settings.networks} networks of width {settings.width} for each seed)")


if __name__ == "__main__":
    run(main)
