"""cluster: stale stages run in clones, some beside each other on this machine or on a cluster of Ray. Not a stage.

What is stale is found by plan.json and dvc.lock, and what was made is taken in only where every hash fits, see
docs/cluster.md. STAGE is a name as DVC has it; none means all that are stale.

Example: python -m stages.cluster --jobs 2
         python -m stages.cluster --list
         python -m stages.cluster --one distill@NAME --return result.tar
         python -m stages.cluster --take result.tar
"""

import argparse
from functools import partial
from pathlib import Path

from rcig import engines, jobs, plan, planned
from rcig.entry import guarded
from rcig.errors import Foreseen
from rcig.fields import known
from rcig.processes import stoppable
from stages.commands import dvc


def main() -> None:
    parser = argparse.ArgumentParser("python -m stages.cluster", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    option = parser.add_argument
    option("stages", nargs="*", metavar="STAGE")
    option("--jobs", type=int, default=1, metavar="N", help="beside each other on this machine (default: %(default)s)")
    option("--return", dest="result", type=Path, metavar="FILE", help="of --one")
    instead = parser.add_mutually_exclusive_group().add_argument
    instead("--address", metavar="WHERE", help="of a cluster of Ray: auto, HOST:PORT, or local for one of this machine")
    instead("--list", action="store_true", help="print the stale stages that can run now, and end")
    instead("--one", metavar="STAGE", help="run one, stale or not, and write what came of it to the file of --return")
    instead("--take", nargs="+", type=Path, metavar="FILE", help="take in such files")
    with stoppable("what was taken in stays, and the same command goes on from there"):
        guarded(do, parser.parse_args())


def do(given: argparse.Namespace) -> None:
    said = partial(print, flush=True)
    if (given.one is None) != (given.result is None):
        raise Foreseen("--one STAGE and --return FILE belong together; give both")
    if given.jobs < 1:
        raise Foreseen(f"--jobs: expected at least 1, got {given.jobs}")
    if not (given.list or given.take):
        dvc("repro", "--quiet", "plan", fix="mend it and run this again")
    head = jobs.Head(resources=plan.read(planned.PARAMS)[0].resources)
    for name in given.stages:
        known("stages", "stage", name, head.stages)
    if given.list:
        print("".join(f"{name}\n" for name in engines.ready(head, given.stages)), end="")
    elif given.one is not None:
        engines.perform_here(head.root, head.job(given.one), given.result)
        said(f"{given.result}: result of {given.one}; take it in: python -m stages.cluster --take {given.result}")
    elif given.take:
        engines.take(head, given.take, said)
    else:
        engine = engines.Cluster(head, given.address) if given.address else engines.Local(head, given.jobs)
        made = engines.run(head, engine, given.stages, said)
        if made.failed:
            raise Foreseen(f"{len(made.failed)} failed: {', '.join(made.failed)}; mend them and run this again")
        dvc("repro", "--allow-missing", *given.stages, fix="see above")


if __name__ == "__main__":
    main()
