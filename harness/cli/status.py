"""`edgefleet status`: how many trials are done, failed, skipped and to do, and why. Reads the store, asks no device."""
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import _output

if TYPE_CHECKING:
    from db.store import Store
    from harness.home import Home

ORDER = 60
SHOWN_IDS = 3                                   # of each reason, in the table; JSON has them all


def status(
    campaign: Annotated[str | None, typer.Argument(help="Name of a campaign, or its file; default: all.")] = None,
    fleet: Annotated[Path | None, typer.Option(help="Fleet file, when a campaign file is given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help=_output.JSON_HELP)] = False,
    block: Annotated[bool, typer.Option("--block", help="Markdown to paste into an issue, for a name.")] = False,
) -> None:
    """Show what is done, failed, skipped and to do, and why.

    A name shows all trials that were ever part of the campaign; a file those that it asks for today.

    \b
    Examples:
      edgefleet status
      edgefleet status quickstart --json | jq '.campaigns[0].states'
      edgefleet status workloads/campaigns/quickstart.toml
      edgefleet status fleet-smoke --block
    """
    from db.store import Store

    home = _output.existing_home()
    with Store.read_only(home.results) as store:
        if block:
            typer.echo(_output.clean(_block(store, _names(store, campaign))), nl=False)
            return
        if campaign is not None and campaign.endswith(".toml"):
            found = [_of_file(Path(campaign), fleet, home, store)]
        else:
            found = [_counted(name, store.trials(name)) for name in _names(store, campaign)]
    if as_json:
        _output.data({"home": str(home.path), "campaigns": found})
        return
    for one in found:
        _print(one)
    if not found:
        _output.words("no campaign was run yet")


def _names(store: "Store", wanted: str | None) -> list[str]:
    from harness.errors import ConfigError

    names = [row["name"] for row in sorted(store.read("campaign", ("name", "last_run_s")),
                                           key=lambda row: row["last_run_s"])]
    if wanted is None:
        return names
    if wanted not in names:
        raise ConfigError.unknown("campaign", wanted, names, str(store.path))
    return [wanted]


def _block(store: "Store", names: Sequence[str]) -> str:
    """Of the campaign that ran last, where none is named."""
    import importlib.metadata

    from harness.errors import ConfigError
    from harness.issue_block import issue_block

    if not names:
        raise ConfigError("no campaign was run yet")
    trials = store.trials(names[-1])
    summaries = {trial["id"]: store.read("summary", trial=trial["id"]) for trial in trials if trial["state"] == "done"}
    return issue_block(names[-1], importlib.metadata.version("edgefleet"), store.devices(), trials, summaries)


def _of_file(path: Path, fleet: Path | None, home: "Home", store: "Store") -> dict[str, Any]:
    from harness.resolve import resolve

    resolved = resolve(path, fleet, home, ask="never")
    planned = [trial.id for trial in resolved.plan.trials]
    known = {row["id"]: row for row in store.trials(ids=planned)}
    rows = [known.get(one, {"id": one, "state": "pending", "error": None, "blame": None, "reason": None})
            for one in planned]
    rows += [{"id": None, "state": "pending", "error": None, "blame": None, "reason": one.reason}
             for one in resolved.plan.unnamed]
    return _counted(resolved.campaign.name, rows)


def _counted(name: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """States with their numbers, and the trials behind each reason."""
    why: dict[tuple[str, str | None, str | None, str | None], list[str | None]] = {}
    for row in rows:
        if row["state"] != "done" and (row["error"] or row["reason"]):
            why.setdefault((row["state"], row["error"], row["blame"], row["reason"]), []).append(row["id"])
    states = Counter(row["state"] for row in rows)
    return {"campaign": name, "trials": len(rows), "states": dict(sorted(states.items())),
            "reasons": [{"state": state, "error": error, "blame": blame, "reason": reason, "count": len(ids),
                         "trials": [one for one in ids if one]}
                        for (state, error, blame, reason), ids in why.items()]}


def _print(one: dict[str, Any]) -> None:
    states = ", ".join(f"{number} {state}" for state, number in one["states"].items()) or "no trials"
    typer.echo(_output.clean(f"{one['campaign']}: {one['trials']} trials: {states}"))
    if one["reasons"]:
        _output.table(("state", "trials>", "blame", "error", "reason", "ids"),
                      [[row["state"], row["count"], row["blame"], row["error"], row["reason"],
                        " ".join(row["trials"][:SHOWN_IDS]) + (" ..." if len(row["trials"]) > SHOWN_IDS else "")]
                       for row in one["reasons"]])
