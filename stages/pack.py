"""pack: stages to run on a machine without DVC, git and network, as a file to carry there. Not a stage.

The file is a tar: unpack it there, and run `python -m rcig.packed` in its folder, see docs/carry.md. STAGE is a name
as DVC has it; stale stages that it follows come along.

Example: python -m stages.pack distill@NAME --to pack.tar
         python -m stages.pack distill@NAME evaluate@NAME --to pack.tar --part 60 --wheels wheels/*.whl
"""

import argparse
import math
import shlex
from pathlib import Path

from rcig import jobs, packs, plan, planned
from rcig.entry import guarded
from rcig.errors import Foreseen
from rcig.processes import stoppable
from stages.commands import dvc

SMALLEST = 0.1
"""MiB of a part"""


def main() -> None:
    parser = argparse.ArgumentParser("python -m stages.pack", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    option = parser.add_argument
    option("stages", nargs="+", metavar="STAGE")
    option("--to", type=Path, default=Path("pack.tar"), metavar="FILE", help="(default: %(default)s)")
    option("--part", type=float, metavar="MIB", help="files of at most so much, FILE.00 and so on, for `cat`")
    option("--wheels", nargs="+", type=Path, default=[], metavar="FILE", help="packages that the machine lacks")
    with stoppable("nothing is packed; the same command starts anew"):
        guarded(do, parser.parse_args())


def do(given: argparse.Namespace) -> None:
    if given.part is not None and not SMALLEST <= given.part < math.inf:
        raise Foreseen(f"--part: expected at least {SMALLEST:g} MiB, got {given.part:g}")
    dvc("repro", "--quiet", "plan", fix="mend it and run this again")
    head = jobs.Head(resources=plan.read(planned.PARAMS)[0].resources)
    size = None if given.part is None else int(given.part * 2**20)
    made = packs.pack(head, given.stages, given.to, size, given.wheels)
    for file in made:
        print(f"{file}: {file.stat().st_size / 2**20:.1f} MiB")
    name = shlex.quote(given.to.name)
    joined = f"cat {name}.* | tar xf -" if size else f"tar xf {name}"
    print(f"there, in an empty folder: {joined}; python -m rcig.packed; back here: python -m stages.unpack results.tar")


if __name__ == "__main__":
    main()
