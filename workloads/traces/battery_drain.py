"""Trace battery_drain: a scripted battery falls from nearly full to nearly empty, under light random load.

The battery column reaches adapters as a context value of provenance `emulated`; nothing is discharged. Load and the
size of each step come from the seed.
"""
import random

from device_agents.wire import LoadTrace

STEPS = 20
FROM_PCT, TO_PCT = 95.0, 5.0


def generate(duration_s: float, seed: int) -> LoadTrace:
    rng = random.Random(seed)
    drops = [rng.uniform(0.5, 1.5) for _ in range(STEPS - 1)]
    scale = (FROM_PCT - TO_PCT) / sum(drops)
    rows, battery = [], FROM_PCT
    for index in range(STEPS):
        rows.append((round(index * duration_s / STEPS, 6), round(rng.uniform(0.0, 40.0), 1), round(battery, 2)))
        battery -= scale * drops[index] if index < STEPS - 1 else 0.0
    return LoadTrace("battery_drain", ("t_s", "cpu_pct", "battery_pct"), tuple(rows))
