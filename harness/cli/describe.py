"""`edgefleet describe`: parameters, MACs, storage and activations of a network or of one of its branches."""
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import _output

ORDER = 20


def describe(
    model: Annotated[str, typer.Argument(help="File name in workloads/models/, or in --plugins.")],
    operator: Annotated[str, typer.Option(help="A branch, or an operator that fills every slot.")] = "full",
    classes: Annotated[int, typer.Option(help="Classes of the last layer.")] = 10,
    size: Annotated[str, typer.Option("--input", help="Shape of one sample.")] = "3x32x32",
    convention: Annotated[str, typer.Option("--macs-convention", help="ours, or thop: as the author database counts.")
                          ] = "ours",
    plugins: Annotated[Path | None, typer.Option(help=_output.PLUGINS_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Count parameters, MACs and storage of a network.

    \b
    Examples:
      edgefleet describe resnet18 --operator fire --classes 100 --input 3x32x32
      edgefleet describe resnet18 --operator svd --classes 100 --macs-convention thop --json
    """
    from workloads.describe import describe as count
    from workloads.describe import parse_shape

    value = count(model, operator, classes, parse_shape(size), convention, _output.plugin_dirs(plugins)).to_json()
    if as_json:
        _output.data(value)
    else:
        _output.table(("what", "value"), list(value.items()))
