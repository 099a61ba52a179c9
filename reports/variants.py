"""What tells cells apart that look alike in a table or figure: the parts of their definitions that differ.

Called by Query for tables, by panels.py for figures and by the table seeds. An edited method, another runtime or other
knobs leave older trials in a campaign; without these words their rows would look like one row printed twice.
"""
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from device_agents.wire import canonical_json

_SUMS = ("bundle", "learned", "method_sha256")
_SUM_DIGITS = 8


def told_apart(cells: Sequence[tuple[Hashable, Mapping[str, Any]]]) -> list[str]:
    """For each (what is shown of it, its definition): "knobs threads 2, runtime x 1.0"; "" where none looks alike."""
    flat = [(look, _flat(definition)) for look, definition in cells]
    alike: dict[Hashable, list[dict[str, str]]] = {}
    for look, definition in flat:
        alike.setdefault(look, []).append(definition)
    differing = {look: [key for key in sorted(set().union(*found)) if len({one.get(key) for one in found}) > 1]
                 for look, found in alike.items()}
    return [", ".join(f"{key} {definition.get(key, 'none')}" for key in differing[look]) for look, definition in flat]


def _flat(definition: Mapping[str, Any]) -> dict[str, str]:
    """Text by key; of a mapping each entry by itself, so that only what differs of long settings is told."""
    found: dict[str, str] = {}
    for key, value in definition.items():
        entries = {f"{key} {name}": part for name, part in value.items()} if isinstance(value, dict) else {key: value}
        found.update({name: _worded(key, part) for name, part in entries.items() if part is not None})
    return found


def _worded(key: str, value: Any) -> str:
    if isinstance(value, str):
        return value[:_SUM_DIGITS] if key in _SUMS else value
    return canonical_json(value)
