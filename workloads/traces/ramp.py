"""Trace ramp: co-running CPU load climbs in four steps from none to all cores, stays, and falls again.

The same for every seed, because a ramp has nothing random in it; the seed moves nothing.
"""
from device_agents.wire import LoadTrace

STEPS = (0.0, 35.0, 70.0, 100.0, 100.0, 100.0, 50.0, 0.0)


def generate(duration_s: float, seed: int) -> LoadTrace:  # noqa: ARG001
    width_s = duration_s / len(STEPS)
    return LoadTrace("ramp", ("t_s", "cpu_pct"),
                     tuple((round(index * width_s, 6), load) for index, load in enumerate(STEPS)))
