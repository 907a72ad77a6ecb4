"""Commands in a DVC workspace of a test, where no benchmark is prepared."""

import os
import subprocess
import sys
from pathlib import Path

from conftest import ROOT

BIN = Path(sys.executable).parent


def run(workspace: Path, *command: str, stubbed: bool = False) -> str:
    """What a command prints that must succeed. `stubbed`: the pipeline's stages compute nothing (see `stub/python`)."""
    folders = [str(ROOT / "tests" / "stub")] * stubbed + [str(BIN), os.environ["PATH"]]
    settings = {"PATH": os.pathsep.join(folders), "DVC_NO_ANALYTICS": "1", "TFDS_DATA_DIR": str(workspace / "nothing")}
    done = subprocess.run(
        command, cwd=workspace, env=os.environ | settings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ran(workspace: Path, *options: str) -> list[str]:
    """The stages that `dvc repro` runs now, stubbed."""
    log = workspace / "ran.txt"
    log.unlink(missing_ok=True)
    run(workspace, "dvc", "repro", *options, stubbed=True)
    return sorted(log.read_text().split()) if log.exists() else []
