"""What a network that was never measured costs on a device: an additive model over its parts.

Fitted to the measured costs of a bundle's branches, in two steps. First cost = constant + slope x multiply-accumulates.
Then a factor for each part (a stage's variant at a width, say), by least squares on what is left, the smallest change
of factors that explains it, because there are fewer branches than parts. A part that no measured branch has keeps its
multiply-accumulates' worth. Used by offline halves; numpy only.
"""
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from workloads.combinations import PartKey, Parts

LEAST_FACTOR = 0.05                             # a part costs something, whatever the fit says
Row = tuple[Parts, float]                       # a network's parts, and what it costs


class CostModel(NamedTuple):
    constant: float
    a_mac: float
    factors: dict[PartKey, float]

    def predict(self, parts: Parts) -> float:
        return self.constant + sum(self.a_mac * macs * self.factors.get(key, 1.0) for key, macs in parts.items())


def fitted(rows: Sequence[Row]) -> CostModel:
    """Needs at least one row whose cost is above zero."""
    macs, costs = np.array([sum(parts.values()) for parts, _ in rows], float), np.array([cost for _, cost in rows])
    constant, a_mac = _line(macs, costs)
    keys = list(dict.fromkeys(key for parts, _ in rows for key in parts))
    prior = np.array([[a_mac * parts.get(key, 0) for key in keys] for parts, _ in rows])
    change = np.linalg.lstsq(prior, costs - constant - prior.sum(1), rcond=None)[0]
    return CostModel(constant, a_mac, {key: max(LEAST_FACTOR, 1.0 + float(value))
                                       for key, value in zip(keys, change, strict=True)})


def left_out_errors(rows: Sequence[Row]) -> list[float]:
    """|predicted - measured| / measured of each row, by a model of all the others; empty below three rows."""
    if len(rows) < 3:
        return []
    return [abs(fitted([*rows[:index], *rows[index + 1:]]).predict(parts) - cost) / cost
            for index, (parts, cost) in enumerate(rows)]


def _line(macs: "np.ndarray[tuple[int], np.dtype[np.float64]]",
          costs: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> tuple[float, float]:
    """Constant and slope, neither below zero; through the origin where a line would fall or start below it."""
    if len(macs) > 1 and np.ptp(macs) > 0:
        slope, constant = np.polyfit(macs, costs, 1)
        if slope > 0 and constant >= 0:
            return float(constant), float(slope)
    return 0.0, float((macs @ costs) / (macs @ macs))
