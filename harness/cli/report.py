"""`edgefleet report`: tables and figures of a campaign, from the database and nothing else."""
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import _output

ORDER = 80
OVERALL = "overall.txt"


def report(
    campaign: Annotated[str | None, typer.Argument(help="Name of a campaign; default: the one that ran last.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the files; default: reports/ of the home.")] = None,
) -> None:
    """Write tables, figures and the page; print the main table.

    The same database gives the same bytes. Tables of emulated or simulated trials say so in their title.

    \b
    Examples:
      edgefleet report
      edgefleet report quickstart --out /tmp/quickstart
    """
    home = _output.existing_home()
    from reports.build import build             # after the home: it takes seconds to import what draws

    written = build(home.results, out or home.reports, campaign)
    overall = next((path for path in written if path.name == OVERALL), None)
    if overall is not None:
        typer.echo(overall.read_text(encoding="utf-8"), nl=False)
    page = next((path for path in written if path.suffix == ".html"), None)
    _output.words(f"{len(written)} files in {out or home.reports}" + (f"; the page: {page}" if page else ""))
