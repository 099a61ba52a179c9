"""`edgefleet ingest`: load journals again and derive their summaries anew. Running it again changes nothing."""
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import _output
from harness.cli._exit import BAD_INPUT

if TYPE_CHECKING:
    from db.store import Store

ORDER = 75
_NAME = re.compile(r"(?P<trial>[0-9a-f]+)\.(?P<attempt>[1-9][0-9]*)\.jsonl(\.gz)?")


def ingest(
    journals: Annotated[list[Path] | None, typer.Argument(help="Journal files; default: all of the home.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help=_output.JSON_HELP)] = False,
) -> None:
    """Load journals again and derive summaries anew.

    Safe to repeat: the same journals give the same rows. A journal that is cut or damaged gives what is readable, and
    says what is not. Without journals all summaries are made anew, also of trials whose journals are gone. Exit 2 when
    a file could not be loaded; the others are.

    \b
    Examples:
      edgefleet ingest
      edgefleet ingest .edgefleet/journals/3f2a91c0d4e7b8aa.1.jsonl.gz
    """
    from db.derive import derive_all, derive_trial
    from db.store import Store

    home = _output.existing_home()
    files = list(journals or sorted(home.journals.glob("*.jsonl*")))
    with Store.open(home.results, create=False) as store:
        loaded, refused = _load(store, [file for file in files if file.suffix != ".part"])
        derived = derive_all(store) if not journals else sum(
            derive_trial(store, trial) > 0 for trial in sorted({one["trial"] for one in loaded if one["latest"]}))
    if as_json:
        _output.data({"home": str(home.path), "journals": loaded, "refused": refused, "derived": derived})
    else:
        _output.table(("journal", "state", "inferences>", "rows>", "problems"),
                      [(one["journal"], one["state"], one["inferences"], one["rows"], "; ".join(one["problems"]))
                       for one in loaded])
    for message in refused:
        _output.words(f"not loaded: {message}")
    _output.words(f"{len(loaded)} journals loaded, {len(refused)} refused; {derived} summaries derived anew")
    if refused:
        raise typer.Exit(BAD_INPUT)


def _load(store: "Store", files: Sequence[Path]) -> tuple[list[dict[str, Any]], list[str]]:
    """Each file on its own: one that is refused keeps no other from being loaded."""
    from db.errors import StoreError
    from db.ingest import ingest_journal

    loaded, refused = [], []
    for file in files:
        name = _NAME.fullmatch(file.name)
        if name is None:
            refused.append(f"{file}: journals are named TRIAL.ATTEMPT.jsonl.gz, as a run writes them")
            continue
        try:
            got = ingest_journal(store, file, name["trial"], int(name["attempt"]))
        except StoreError as error:
            refused.append(str(error))
            continue
        loaded.append({"journal": file.name, "trial": name["trial"], "attempt": int(name["attempt"]),
                       "state": got.state, "inferences": got.inferences, "rows": got.rows,
                       "problems": list(got.problems), "latest": got.replaced})
    return loaded, refused
