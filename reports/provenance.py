"""What titles and legends say about where numbers come from. Called by every table, every figure and the page.

Refuses to let a table of emulated or simulated trials pass for evidence, and one of CPU-only runs for more than that.
"""
from collections.abc import Iterable

from device_agents.wire import PROVENANCES

LEGEND = {
    "measured": "read from a clock or sensor of the device itself",
    "emulated": "a real run on a local device that was slowed by a stated factor or limited: it shows that the harness "
                "works, and is no evidence of who wins",
    "simulated": "computed on a virtual clock from recorded or stated costs: no evidence of who wins",
    "modelled": "computed from a real run by a stated model, not read from a meter: labelled, and in no comparison",
    "synthetic": "read from a made-up sensor file: for tests only",
}
_EVIDENCE = ("measured",)


def ordered(found: Iterable[str]) -> tuple[str, ...]:
    """Distinct provenances in the order of wire.PROVENANCES."""
    found = set(found)
    return tuple(name for name in PROVENANCES if name in found)


def titled(title: str, provenances: Iterable[str], processors: Iterable[str] = ()) -> str:
    """`title` with processor and provenance: "Methods, processor cpu (emulated: no evidence of who wins)"."""
    found, processors = ordered(provenances), sorted(set(processors))
    if processors:
        title += f", processor {' and '.join(processors)}"
    doubtful = [name for name in found if name not in _EVIDENCE]
    if not found:
        return title
    if not doubtful:
        return f"{title} ({' and '.join(found)})"
    if len(doubtful) == len(found):
        return f"{title} ({' and '.join(found)}: no evidence of who wins)"
    return f"{title} ({' and '.join(found)}: {' and '.join(doubtful)} numbers are no evidence of who wins)"
