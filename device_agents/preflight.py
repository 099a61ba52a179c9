"""Is this device fit to start? Compares the order's limits with what the sensors say, before anything is loaded.

Called by loop.run_trial. A sensor that is missing passes: the finding's `ok` is None and validity is "unknown".
It waits for nothing but a first cpu reading, which takes two ticks of the sampler; the harness does the cooling down.
"""
from typing import Any, Dict, List, Tuple

from device_agents.seams import Clock

#: limit's name -> (Context field that is compared, how)
_CHECKS = (("above_idle_c", "temp_c", "most"), ("min_battery_pct", "battery_pct", "least"),
           ("max_co_cpu_pct", "co_cpu_pct", "most"))
_LONGEST_WAIT_NS = int(1e9)
_STEP_NS = int(2e7)


class NotReady(Exception):
    """The device is too hot, too busy or too empty now. The harness waits and tries again."""


def check(limits: Dict[str, Any], senses: Any, clock: Clock) -> Tuple[str, List[Dict[str, Any]]]:
    """(validity, findings) as journalled: validity is no | unknown | yes; with nothing to check it is "unknown"."""
    wanted = [(name, field, how) for name, field, how in _CHECKS if limits.get(name) is not None]
    give_up_ns = clock.now_ns() + _LONGEST_WAIT_NS
    while any(field == "co_cpu_pct" for _, field, _ in wanted) and senses.latest().get("co_cpu_pct") is None:
        if clock.now_ns() >= give_up_ns:
            break
        clock.sleep_until(clock.now_ns() + _STEP_NS)
    sensed = senses.latest()
    findings: List[Dict[str, Any]] = []
    for name, field, how in wanted:
        value, limit = sensed.get(field), limits[name]
        if name == "above_idle_c":
            limit = None if limits.get("idle_c") is None else limits["idle_c"] + limit
        ok = None if value is None or limit is None else (value <= limit if how == "most" else value >= limit)
        findings.append({"check": name, "value": value, "limit": limit, "ok": ok})
    if any(finding["ok"] is False for finding in findings):
        return "no", findings
    return ("yes" if findings and all(finding["ok"] for finding in findings) else "unknown"), findings


def explain(findings: List[Dict[str, Any]]) -> str:
    """The findings that failed, as one message."""
    return "; ".join("%(check)s: reads %(value)s, limit %(limit)s" % finding
                     for finding in findings if finding["ok"] is False)
