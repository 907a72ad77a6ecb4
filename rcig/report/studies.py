"""What was measured at the points of a study, sorted for figures and tables."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rcig.params import Study

VALUES = ["seconds_per_step", "memory_mb", "heldout_accuracy"]


class Measured(NamedTuple):
    study: Study
    rows: pd.DataFrame
    """see rcig.rows.read_study"""

    def points(self) -> pd.DataFrame:
        """One line per point, in the order in which they were measured: VALUES as means over the seeds."""
        return self.rows.groupby(self.study.varied, sort=False)[VALUES].mean().reset_index()

    def lines(self, x: str) -> dict[str, pd.DataFrame]:
        """The points by all settings that vary besides x, in words: "images_per_pass 10"; sorted by x."""
        points = self.points().sort_values(x)
        rest = [name for name in self.study.varied if name != x]
        labels = [", ".join(f"{name} {_text(point[name])}" for name in rest) for _, point in points.iterrows()]
        return {str(label): line for label, line in points.groupby(np.array(labels), sort=False)}


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
