"""`edgefleet show`: one trial as a readable timeline, with its definition, attempts and summary."""
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import _output

if TYPE_CHECKING:
    from db.store import Store

ORDER = 70
_SHOWN = ("campaign", "device", "task", "model", "label", "method", "trace", "repeat", "seed", "engine", "runtime",
          "residency", "period_ms", "deadline_ms", "duration_s", "provenance", "state", "error", "blame", "reason")


def show(
    trial: Annotated[str, typer.Argument(help="A trial's id, or its first digits.")],
    as_json: Annotated[bool, typer.Option("--json", help=_output.JSON_HELP)] = False,
) -> None:
    """Show one trial as a readable timeline.

    With what defined it, its attempts and its summary.

    Times are seconds into the measured window; what lies before it is negative.

    \b
    Examples:
      edgefleet show 3f2a
      edgefleet show 3f2a91c0d4e7b8aa --json | jq .summary
    """
    from db.store import Store

    home = _output.existing_home()
    with Store.read_only(home.results) as store:
        found = _gather(store, _full_id(store, trial))
    if as_json:
        _output.data(found)
    else:
        _print(found)


def _full_id(store: "Store", prefix: str) -> str:
    from harness.errors import ConfigError

    ids = [row["id"] for row in store.read("trial", ("id",))]
    found = [one for one in ids if one.startswith(prefix)]
    if prefix in found or len(found) == 1:
        return prefix if prefix in found else found[0]
    if not found:
        raise ConfigError(f"no trial in {store.path} has an id that begins with {prefix!r}; it holds {len(ids)} "
                          "trials. `edgefleet plan CAMPAIGN` lists the ids of a campaign.")
    raise ConfigError(f"{len(found)} trials have ids that begin with {prefix!r}: {', '.join(sorted(found)[:8])}"
                      + (" ..." if len(found) > 8 else "") + ". Add a digit.")


def _gather(store: "Store", trial_id: str) -> dict[str, Any]:
    from harness.timeline import LOAD_METRICS, timeline

    attempts = store.read("attempt", trial=trial_id)
    last = max((one["number"] for one in attempts if one["journal"]), default=0)
    lines = timeline(store.read("event", trial=trial_id, attempt=last), store.read("decision", trial=trial_id),
                     store.read("inference", trial=trial_id),
                     store.read("measurement", trial=trial_id, metric=LOAD_METRICS))
    return {"trial": store.read("trial", id=trial_id)[0], "attempts": attempts,
            "timeline": [line._asdict() for line in lines], "summary": store.read("summary", trial=trial_id)}


def _print(found: dict[str, Any]) -> None:
    row = found["trial"]
    _output.table(("trial", row["id"]), [(name, row[name]) for name in _SHOWN if row[name] is not None])
    _output.table(("attempt>", "state", "error", "blame", "preflight", "seconds>", "journal", "message"), [
        (one["number"], one["state"], one["error"], one["blame"], one["preflight"],
         None if one["ended_s"] is None or one["started_s"] is None else f"{one['ended_s'] - one['started_s']:.1f}",
         one["journal"], one["message"]) for one in found["attempts"]])
    _output.table(("t_s>", "phase", "what"), [
        (None if line["t_s"] is None else f"{line['t_s']:.3f}", line["phase"], line["text"])
        for line in found["timeline"]])
    _output.table(("metric", "value>", "unit", "n>", "source", "provenance", "reason"), [
        (one["metric"], None if one["value"] is None else f"{one['value']:.4g}", one["unit"], one["n"], one["source"],
         one["provenance"], one["reason"]) for one in found["summary"]])
