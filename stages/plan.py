"""plan: params.yaml and the code -> plan.json, which every other stage reads, and plan/STAGE.json, which DVC follows.

Example: python -m stages.plan
"""

import sys
import warnings
from collections.abc import Mapping
from typing import Any

from rcig import lock, plan, planned, store
from stages.common import run


def main() -> None:
    params, content = plan.read(planned.PARAMS)
    with warnings.catch_warnings(record=True) as odd:
        warnings.simplefilter("always")
        stages = plan.make(params)
    for text in dict.fromkeys(str(warning.message) for warning in odd if warning.category is UserWarning):
        print(f"warning: {planned.PARAMS}: {text}", file=sys.stderr)
    save(stages, content)


def save(stages: Mapping[str, Any], params: bytes) -> None:
    """Write the plan that was made of a params.yaml with that content, and before it the part of each stage.

    So a stage never runs by a plan whose parts are older: what a killed writer leaves is the plan before, which is
    refused where settings or code have changed.
    """
    for stage, entry in stages.items():
        store.save_json(lock.part(stage), {"stages": {stage: entry}})
    planned.save(stages, params)


if __name__ == "__main__":
    run(main)
