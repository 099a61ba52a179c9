"""The command `edgefleet`. A verb is a file of this folder: its function of the same name, placed by its ORDER.

Verbs import only typer at the top and everything else inside, so that `--help` is instant; a file whose name begins
with "_" is no verb. A group of verbs (`edgefleet device gc`) is a file that holds a typer.Typer called `app`.
"""
import importlib
import os
import pkgutil
import sys
from types import ModuleType
from typing import Annotated

import typer

from harness.cli._exit import DEBUG, end_as_interrupted, guarded, open_streams
from harness.runtimes import telemetry

_HELP = """Benchmark adaptive inference on a fleet of edge devices.

A campaign file states the experiment, fleet.toml the devices; results land in the nearest .edgefleet/ folder.

\b
Examples:
  edgefleet doctor                                          what can this machine measure and run?
  edgefleet run workloads/campaigns/quickstart.toml         run what is missing
  edgefleet status                                          done, failed, skipped, and why
  edgefleet report                                          tables and figures

Data goes to stdout, words to stderr. Exit 0 all done, 1 some trial failed, 2 bad input, 3 device trouble.
"""


def main() -> None:
    """Entry point of the console script."""
    open_streams()
    end_as_interrupted()
    os.environ.update({**telemetry.OFF, **os.environ})
    sys.exit(guarded(build_app(), sys.argv[1:]))


def build_app() -> typer.Typer:
    """The whole command line, found by listing this folder."""
    app = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None, add_completion=False,
                      pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]})
    app.callback()(_options)
    for module in sorted(_verbs(), key=lambda one: (one.ORDER, one.__name__)):
        name = module.__name__.rpartition(".")[2]
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name)
        else:
            app.command(name, no_args_is_help=False)(getattr(module, name))
    return app


def _verbs() -> list[ModuleType]:
    names = [info.name for info in pkgutil.iter_modules(__path__) if not info.name.startswith("_")]
    return [importlib.import_module(f"{__name__}.{name}") for name in names]


def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of unexpected errors on stderr.")] = False,
) -> None:
    if debug:
        os.environ[DEBUG] = "1"
