"""`edgefleet data`: which tasks have their data, and fetching the official archives."""
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import _output

ORDER = 15

app = typer.Typer(help="Check the data sets, or fetch an official archive.", no_args_is_help=True,
                  rich_markup_mode=None)


@app.command()
def check(
    tasks: Annotated[list[str] | None, typer.Argument(help="Tasks; default: all.")] = None,
    plugins: Annotated[Path | None, typer.Option(help=_output.PLUGINS_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Say which tasks have their data; exit 2 when one that was named lacks them.

    \b
    Examples:
      edgefleet data check
      edgefleet data check cifar10 --json
      edgefleet data check doors --plugins my_plugins
    """
    from workloads.data_sets import check_data

    found = check_data(tasks or (), _output.plugin_dirs(plugins))
    if as_json:
        _output.data([one._asdict() for one in found])
    else:
        _output.table(("task", "data", "checksum"),
                      [(one.task, one.problem or "there", one.checksum[:12] or None) for one in found])
    if tasks and any(one.problem for one in found):
        raise typer.Exit(2)


@app.command()
def fetch(
    task: Annotated[str, typer.Argument(help="Task with an official archive.")],
    plugins: Annotated[Path | None, typer.Option(help=_output.PLUGINS_HELP)] = None,
) -> None:
    """Download a task's official archive to $EDGEFLEET_DATA and check its md5.

    \b
    Examples:
      edgefleet data fetch cifar10
    """
    from harness.cli.build import progress
    from workloads.data_sets import fetch_data

    with progress(task) as report:
        found = fetch_data(task, report, _output.plugin_dirs(plugins))
    _output.words(f"{task}: {found.folder}"
                  + ("" if found.fresh else " was there and is left as it is; delete it to have it fetched anew"))
