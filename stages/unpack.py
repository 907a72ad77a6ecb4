"""unpack: take in what a pack has left on another machine. Not a stage.

A result counts where settings, code, data and the versions of JAX and its like are those of this clone. With --release
sets become released ones instead, whatever made them; what else there is can be made here from them.

Example: python -m stages.unpack results.tar
"""

import argparse
from pathlib import Path

from rcig import jobs, packs
from rcig.entry import guarded
from stages import release


def main() -> None:
    parser = argparse.ArgumentParser("python -m stages.unpack", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--release", action="store_true", help="as released sets: released/NAME.npz")
    guarded(do, parser.parse_args())


def do(given: argparse.Namespace) -> None:
    head = jobs.Head()
    for line in packs.unpack(head, given.files, release.release if given.release else None):
        print(line)


if __name__ == "__main__":
    main()
