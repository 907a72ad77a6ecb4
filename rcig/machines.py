"""What stages take of the machines that they run on: `resources` in params.yaml."""

from dataclasses import dataclass
from typing import Annotated

from rcig.fields import NOT_NEGATIVE, POSITIVE


@dataclass(frozen=True)
class Resources:
    """Of one stage; it never changes what the stage makes."""

    cores: Annotated[float, POSITIVE] = 1
    """of the processor"""
    memory: Annotated[float, NOT_NEGATIVE] = 0
    """GiB; 0 asks for nothing"""
    gpus: Annotated[float, NOT_NEGATIVE] = 0
    """a fraction shares one"""
