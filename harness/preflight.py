"""What a device must be before a trial: the campaign's limits, made absolute for this device. Called by the runner.

The readings are taken by the agent itself, right before the trial: a check from here would be a second round trip, and
older by it. The agent journals validity yes | no | unknown; `no` comes back as DeviceNotReady, waited for and retried.
"""
from collections.abc import Mapping
from typing import Any

from harness.config import PreflightSpec


def limits(spec: PreflightSpec, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Order.preflight. `above_idle_c` counts from the temperature at the first probe of this run."""
    wanted: dict[str, Any] = spec.model_dump(exclude={"cooldown_s"}, exclude_none=True)
    if "above_idle_c" in wanted:
        wanted["idle_c"] = facts.get("sensors", {}).get("temp_c", {}).get("value")
    return wanted
