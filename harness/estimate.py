"""How long a list of trials takes: a rehearsal of the scheduler's rules, without running anything.

Called by plan and run. Pure. A device runs one trial at a time, in the order of the plan, and no more measured windows
run at once than each of its groups allows. Refuses precision: gaps and cool-downs are stated assumptions.
"""
import heapq
from collections import deque
from collections.abc import Iterable

from device_agents.wire import Trial
from harness.fleet import FleetSpec

GAP_S = 0.5                                     # push, start, load the branches, collect


def needed_s(trials: Iterable[Trial], fleet: FleetSpec, cooldown_s: float = 0.0) -> float:
    """Seconds from the first trial's start to the last one's end."""
    return span_s(((trial.device, trial_s(trial)) for trial in trials), fleet, cooldown_s)


def span_s(trials: Iterable[tuple[str, float]], fleet: FleetSpec, cooldown_s: float = 0.0) -> float:
    """The same for trials that may have no id yet: of each its device, and its seconds with what surrounds it."""
    waiting: dict[str, deque[float]] = {}
    for device, seconds in trials:
        takes_s = 0.0 if fleet.devices[device].transport == "simulated" else seconds + cooldown_s
        waiting.setdefault(device, deque()).append(takes_s)
    free = {name: group.limit for name, group in fleet.groups.items()}
    running: list[tuple[float, str]] = []
    now = 0.0
    while waiting or running:
        busy = {name for _, name in running}
        for name in [one for one in waiting if one not in busy]:
            groups = fleet.devices[name].groups
            if all(free[group] for group in groups):
                for group in groups:
                    free[group] -= 1
                heapq.heappush(running, (now + waiting[name].popleft(), name))
                if not waiting[name]:
                    del waiting[name]
        now, name = heapq.heappop(running)
        for group in fleet.devices[name].groups:
            free[group] += 1
    return now


def trial_s(trial: Trial) -> float:
    """Seconds of one trial with what surrounds it, cool-down excluded."""
    return trial.warmup_s + trial.duration_s + GAP_S
