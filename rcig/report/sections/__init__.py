"""The sections of the report, one file each.

A module in this folder has `section(report) -> Section` and ORDER, by which sections follow each other. Nothing else
names it: a further section is a further file.
"""

import pkgutil
from importlib import import_module
from types import ModuleType

from rcig.report.blocks import Section
from rcig.report.results import Report


def made_of(report: Report) -> list[Section]:
    """All sections in their order, those without blocks among them."""
    return [module.section(report) for module in modules()]


def modules() -> list[ModuleType]:
    found = [import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    return sorted(found, key=lambda module: (module.ORDER, module.__name__))
