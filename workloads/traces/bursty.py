"""Trace bursty: silence and bursts of CPU load on nearly all cores take turns, each of a random length.

A window holds about four bursts whatever its length, on for half of it in the mean; lengths and heights come from
the seed.
"""
import random

from device_agents.wire import LoadTrace

BURSTS = 4


def generate(duration_s: float, seed: int) -> LoadTrace:
    rng = random.Random(seed)
    mean_s = duration_s / (2 * BURSTS)
    rows, t_s, busy = [], 0.0, False
    while t_s < duration_s:
        rows.append((round(t_s, 6), round(rng.uniform(85.0, 100.0), 1) if busy else 0.0))
        # Between half and one and a half times the mean, so that no burst is shorter than a sampler's period.
        t_s += mean_s * rng.uniform(0.5, 1.5)
        busy = not busy
    return LoadTrace("bursty", ("t_s", "cpu_pct"), tuple(rows))
