"""`edgefleet report`: tables and figures of a campaign, from the database and nothing else."""
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import _output

ORDER = 80


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
    from reports.build import build, overall  # after the home: it takes seconds to import what draws
    from reports.table_files import to_text

    folder = out or home.reports
    written = build(home.results, folder, campaign)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    typer.echo(_output.clean(to_text(overall(home.results, campaign), width)), nl=False)
    _output.words(f"{len(written)} files in {folder}")
    _output.words(f"the page: {folder / 'index.html'}")
