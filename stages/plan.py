"""plan: params.yaml and the code -> plan.json, which every other stage reads its settings from.

Example: python -m stages.plan
"""

import sys
import warnings

from rcig import plan, planned
from stages.common import run


def main() -> None:
    params, content = plan.read(planned.PARAMS)
    with warnings.catch_warnings(record=True) as odd:
        warnings.simplefilter("always")
        stages = plan.make(params)
    for text in dict.fromkeys(str(warning.message) for warning in odd if warning.category is UserWarning):
        print(f"warning: {planned.PARAMS}: {text}", file=sys.stderr)
    planned.save(stages, content)


if __name__ == "__main__":
    run(main)
