"""Random real images: what a distilled set has to be better than. Nothing is learned."""

from dataclasses import dataclass

from rcig.methods.base import Distilled, Member, Method, Setup, kept


@dataclass(frozen=True)
class Settings:
    """It has none."""


MEMBERS = {"random_real": Member(learns=False)}


def make(settings: Settings, setup: Setup) -> Method[Distilled, tuple[()], Distilled]:
    """The initial set, which is of random real images."""
    return kept(lambda key, initial: initial)
