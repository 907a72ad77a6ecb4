"""On PYTHONPATH, tells of every `python -m stages.NAME [KEY]` at its end which of the project's files it has loaded.

A JSON list in the folder that the variable LOADED names, as NAME[@KEY].json; paths are relative to the folder that the
process was started in.
"""

import atexit
import json
import os
import sys
from pathlib import Path

START = Path.cwd()


def tell() -> None:
    names = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    files = {Path(name).resolve() for name in names if name}
    inside = [file.relative_to(START) for file in files if file.is_relative_to(START)]
    mine = sorted(str(file) for file in inside if file.parts[0] in ("rcig", "stages"))
    name = "@".join([sys.orig_argv[2].removeprefix("stages."), *sys.orig_argv[3:]])
    (Path(os.environ["LOADED"]) / f"{name}.json").write_text(json.dumps(mine))


if sys.orig_argv[1:2] == ["-m"] and sys.orig_argv[2].startswith("stages."):
    atexit.register(tell)
