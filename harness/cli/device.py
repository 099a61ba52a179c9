"""`edgefleet device`: what is kept on a device. `gc` collects the bundles there that nobody used for long."""
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import _output
from harness.cli._exit import DEVICE_TROUBLE

if TYPE_CHECKING:
    from harness.fleet import DeviceSpec
    from harness.home import Home

ORDER = 15
MAX_AGE_DAYS = 30.0

app = typer.Typer(help="What is kept on a device: collect old bundles.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """A group also while it has one verb."""


@app.command()
def gc(
    devices: Annotated[list[str] | None, typer.Argument(help="Names, globs or tag:x; default: all.")] = None,
    fleet: Annotated[Path | None, typer.Option(help="Fleet file; default: ./fleet.toml, else this machine.")] = None,
    max_age_days: Annotated[float, typer.Option(min=0, help="Remove what was unused for so long.")] = MAX_AGE_DAYS,
    max_mb: Annotated[float | None, typer.Option(min=0, help="Then keep so many MiB, the latest used.")] = None,
) -> None:
    """Free space on devices: bundles that were unused for long.

    What a later trial needs is pushed again. Results are not touched: they are not on the device but in your home.

    \b
    Examples:
      edgefleet device gc
      edgefleet device gc 'phone-*' --max-age-days 0
      edgefleet device gc nano-a --max-mb 200
    """
    from harness.fleet import FLEET_FILE, host_only, load_fleet

    path = fleet or (Path(FLEET_FILE) if Path(FLEET_FILE).is_file() else None)
    spec = load_fleet(path) if path else host_only()
    chosen = [one for one in spec.select(devices or ["*"], str(path or "the fleet")) if one.transport != "simulated"]
    home = _output.new_home()
    answers = [_collect(one, home, max_age_days, max_mb) for one in chosen]
    _output.table(("device", "files removed>", "MiB kept>", "trouble"), answers)
    if any(trouble for *_, trouble in answers):
        raise typer.Exit(DEVICE_TROUBLE)


def _collect(spec: "DeviceSpec", home: "Home", max_age_days: float,
             max_mb: float | None) -> tuple[str, int | None, str | None, str]:
    """A line of the table; a device that does not answer keeps the others from nothing."""
    from harness.device import open_device
    from harness.errors import EdgefleetError

    try:
        device = open_device(spec, home)
        try:
            removed, kept_mb = device.collect_garbage(max_age_days, max_mb)
        finally:
            device.close()
    except EdgefleetError as error:
        return spec.name, None, None, str(error)
    return spec.name, removed, f"{kept_mb:.1f}", ""
