"""Trace ramp: co-running CPU load climbs in steps from none to all cores, stays, and falls again in steps.

The order of things is the same for every seed; how high a step between none and all is, and how long each lasts, come
from the seed, so that what is tuned on one seed's ramp has not seen another's.
"""
import random

from device_agents.wire import LoadTrace

#: (least, most load in %, mean share of the window in eighths)
STEPS = ((0.0, 0.0, 1), (20.0, 50.0, 1), (55.0, 85.0, 1), (100.0, 100.0, 3), (35.0, 65.0, 1), (0.0, 0.0, 1))


def generate(duration_s: float, seed: int) -> LoadTrace:
    rng = random.Random(seed)
    widths = [eighths * rng.uniform(0.5, 1.5) for _, _, eighths in STEPS]
    rows, t_s = [], 0.0
    for (least, most, _), width in zip(STEPS, widths, strict=True):
        rows.append((round(t_s, 6), round(rng.uniform(least, most), 1)))
        t_s += duration_s * width / sum(widths)
    return LoadTrace("ramp", ("t_s", "cpu_pct"), tuple(rows))
