"""`edgefleet bundle`: bundles that are not trained here. `import` makes one of a user's own ONNX files."""
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import _output

ORDER = 35

app = typer.Typer(help="Bundles of your own: import ONNX files.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """A group also while it has one verb."""


@app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(help="ONNX files; each becomes a branch, named like the file.")],
    task: Annotated[str, typer.Option(help="File name in workloads/tasks/, or in --plugins: data to judge them on.")],
    name: Annotated[str, typer.Option(help="What campaigns call it: model = [\"NAME\"].")] = "imported",
    plugins: Annotated[Path | None, typer.Option(help=_output.PLUGINS_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help=_output.JSON_HELP)] = False,
) -> None:
    """Make a bundle of existing models, checked like ours.

    Each file takes one float32 sample of the task at a time and gives one score a class, with fixed sizes. Accuracy is
    measured here on the task's validation split; costs are profiled on each device, as for networks trained here.

    \b
    Examples:
      edgefleet bundle import large.onnx small.onnx --task cifar10 --name mine
      edgefleet bundle import net.onnx --task doors --plugins my_plugins
    """
    from harness.cli.build import progress
    from workloads.import_onnx import import_bundle

    home = _output.new_home()
    with progress(f"import {name}") as report:
        made = import_bundle(home.path, files, task, name, report, _output.plugin_dirs(plugins))
    for note in made.notes:
        _output.words(f"note: {note}")
    bundle = made.folder.bundle
    if as_json:
        _output.data({"home": str(home.path), "task": task, "model": name, "bundle": bundle.id,
                      "folder": str(made.folder.path), "branches": [branch._asdict() for branch in bundle.branches]})
        return
    _output.table(("branch", "accuracy>", "M MACs>", "MB>", "precision"), [
        (one.id, f"{one.accuracy:.4f}", f"{one.macs / 1e6:.2f}", f"{one.size_b / 1e6:.2f}", one.precision)
        for one in bundle.branches])
    _output.words(f'bundle {bundle.id[:12]}; in a campaign: task = ["{task}"], model = ["{name}"]')
