"""Commands in a DVC workspace of a test, where no benchmark is prepared."""

import os
import subprocess
import sys
from pathlib import Path

from conftest import ROOT

ENVIRONMENT = os.environ | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "DVC_NO_ANALYTICS": "1",
    "TFDS_DATA_DIR": str(ROOT / "nothing"),
    **{f"GIT_{who}_{what}": "test@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


def run(workspace: Path, *command: str, stubbed: bool = False) -> str:
    """What a command prints that must succeed. `stubbed`: the pipeline's stages compute nothing (see `stub/python`)."""
    path = f"{ROOT / 'tests' / 'stub'}{os.pathsep}" * stubbed + ENVIRONMENT["PATH"]
    environment = ENVIRONMENT | {"PATH": path}
    done = subprocess.run(command, cwd=workspace, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ran(workspace: Path, *options: str) -> list[str]:
    """The stages that `dvc repro` runs now, stubbed."""
    log = workspace / "ran.txt"
    log.unlink(missing_ok=True)
    run(workspace, "dvc", "repro", *options, stubbed=True)
    return sorted(log.read_text().split()) if log.exists() else []
