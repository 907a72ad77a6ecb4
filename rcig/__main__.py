"""The command `rcig`, which is also `python -m rcig`: the verbs of the library."""

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import rcig
from rcig import store
from rcig.entry import guarded
from rcig.errors import ParamsError, StoreError
from rcig.fields import NAME, shown
from rcig.processes import stoppable
from rcig.sets import DistilledSet, SeedError, card

SET = "name of a distilled set, or path of its .npz file or of an export"
FIX = "add --dataset NAME to `python -m rcig judge`"
REAL = "folder of a folder for each class, .npz file or local Hugging Face dataset, see docs/your-images.md"


def main() -> None:
    """What the command line asks for. Wrong arguments end it with status 2, a foreseen error with one line and 1.

    Ctrl-C and SIGTERM end it with one line and 130.
    """
    given = _parser().parse_args()
    try:
        with stoppable("the same command starts anew"):
            guarded(given.verb, given)
            sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has stopped, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def add(given: argparse.Namespace) -> None:
    rcig.add(given.name, given.path)


def distil(given: argparse.Namespace) -> None:
    from rcig import exporting

    folder, source = Path(given.folder), Path(given.path)
    exporting.check(folder)
    if folder.resolve().is_relative_to(source.resolve()):
        raise StoreError(f"{folder}: lies in {source}, and would be images of it; name another folder")
    numbers = {"images_per_class": given.images_per_class, "steps": given.steps, "width": given.width}
    distilled = rcig.distil(given.path, method=given.method, **numbers, seed=given.seed)
    try:
        rcig.export(distilled, given.folder)
    except Exception as error:  # whatever it is, the set took its time
        kept = exporting.keep(distilled, folder)
        command = shlex.join(["python", "-m", "rcig", "export", str(kept), "FOLDER"])
        raise StoreError(f"{folder}: could not be written ({error}); the set is in {kept}, try {command}") from error
    command = shlex.join(["python", "-m", "rcig", "judge", given.folder])
    print(f"{folder}: {len(distilled.images)} images; see how good they are: {command}")


def judge(given: argparse.Namespace) -> None:
    from rcig.api import YOURS  # which needs JAX

    if given.dataset is not None and not NAME.fullmatch(given.dataset):
        raise ParamsError(
            f"--dataset: expected the name of a dataset, got {shown(given.dataset)}; leave it out for a set that was"
            " distilled from there, or list the images by `python -m rcig add`"
        )
    distilled = _ours_or_theirs(given)
    own = distilled.meta.get("own", {}).get("path")
    if given.dataset is None and own is None and distilled.meta["dataset"] == YOURS:
        raise ParamsError(
            f"{given.set}: was distilled from arrays, which are kept nowhere; add --dataset NAME, or in"
            " Python: rcig.judge(rcig.load(SET), (images, labels))"
        )
    on = given.dataset or (Path(own) if own else distilled.meta["dataset"])
    found = rcig.judge(distilled, on, given.protocol, width=given.width, networks=given.networks)
    print(f"{given.set}: test accuracy {_percent(found)}")


def _ours_or_theirs(given: argparse.Namespace) -> DistilledSet:
    """A distilled set of ours, or one that others have published where the file is no set of ours."""
    from rcig import exporting

    said = {name: value for name in ("space", "labels") if (value := getattr(given, name)) is not None}
    if said and given.dataset is None:
        raise ParamsError(f"{given.set}: --space and --labels are for a set of others, whose dataset is needed; {FIX}")
    why = ""
    try:
        if not said:
            return rcig.load(given.set, seed=given.seed)
    except StoreError as error:
        of_seed = isinstance(error, SeedError) or (given.seed is not None and exporting.is_export(given.set))
        if of_seed or not Path(given.set).exists():
            raise
        why = f" ({error})"
    if given.dataset is None:
        raise ParamsError(
            f"{given.set}: no whole set of ours{why}; of which dataset is it, if it is one of others? {FIX}"
        )
    return rcig.read(given.set, given.dataset, seed=given.seed or 0, **said)


def show(given: argparse.Namespace) -> None:
    from rcig import exporting

    try:
        distilled = rcig.load(given.set)
    except StoreError as error:
        if not Path(given.set).exists():
            raise
        raise ParamsError(
            f"{given.set}: no whole set of ours ({error}); one of others is not shown but judged; {FIX}"
        ) from None
    summary = Path("results/distill") / given.set / "summary.json"
    print(card(distilled, store.load_json(summary) if exporting.is_of_set("distill", given.set, summary) else None))
    accuracy = exporting.recorded(given.set, distilled.meta["seeds"][0])
    if accuracy is not None:
        print(f"Test accuracy {_percent(accuracy)}")


def export(given: argparse.Namespace) -> None:
    rcig.export(given.set, given.folder, seed=given.seed)
    print(f"{given.folder}: exported; its README.md says how to use it")


def _percent(accuracy: Any) -> str:
    deviation = f" ± {100 * accuracy.deviation:.1f}" if len(accuracy.networks) > 1 else ""
    networks = f"{len(accuracy.networks)} networks of width {accuracy.width}"
    return f"{100 * accuracy.mean:.1f}{deviation} % ({networks}, {accuracy.protocol})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("rcig", description="Distil a dataset into a handful of images.")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(run: Any, help: str, example: str) -> Any:
        added = verbs.add_parser(
            run.__name__,
            help=help,
            description=f"{help[0].upper()}{help[1:]}.",
            epilog=f"example: python -m rcig {example}",
        )
        added.set_defaults(verb=run)
        return added.add_argument

    option = verb(add, "list images of your own as a dataset of the pipeline", "add leaves inputs/leaves")
    option("name", metavar="NAME", help="of the dataset")
    option("path", metavar="PATH", help=REAL)

    option = verb(distil, "distil images of your own", "distil inputs/leaves leaves --images-per-class 10")
    option("path", metavar="PATH", help=REAL)
    option("folder", metavar="FOLDER", help="where the set is written to, as by export")
    option("--method", default="rcig", help="see docs/methods.md (default: %(default)s)")
    option("--images-per-class", type=int, default=1, metavar="N")
    option("--steps", type=int, default=1000, metavar="N", help="outer steps (default: %(default)s)")
    option("--width", type=int, default=32, metavar="N", help="of the networks (default: %(default)s)")
    option("--seed", type=int, default=0, metavar="N")

    option = verb(
        judge,
        "measure the test accuracy of networks that are trained on a set alone",
        "judge mnist-ipc1-rcig-gpu --width 32",
    )
    option("set", metavar="SET", help=f"{SET}; or path of a set that others have published, see docs/other-sets.md")
    option("--dataset", metavar="NAME", help="a dataset prepared in this folder (default: the set's)")
    option("--space", help="of the images of a set of others, where it does not say it")
    option("--labels", help="likewise, what its labels are")
    option("--protocol", default="loo2023", help="see docs/judging.md (default: %(default)s)")
    option("--width", type=int, default=128, metavar="N", help="of the networks (default: %(default)s)")
    option("--networks", type=int, default=2, metavar="N", help="how many are trained (default: %(default)s)")
    option("--seed", type=int, metavar="N", help="which of the seeds that the set has (default: its first)")

    option = verb(show, "say what a set is and how it came about", "show mnist-ipc1-rcig-gpu")
    option("set", metavar="SET", help=SET)

    option = verb(export, "write a set for PyTorch and everything else", "export mnist-ipc1-rcig-gpu mnist")
    option("set", metavar="SET", help=SET)
    option("folder", metavar="FOLDER", help="where it is written to; an earlier export there is replaced")
    option("--seed", type=int, metavar="N", help="which of the seeds that the set has (default: its first)")
    return parser


if __name__ == "__main__":
    main()
