"""`edgefleet device`: what is kept on a device. `gc` collects old bundles, `provision` brings an inference runtime.

A device that does not answer keeps the others from nothing; its reason is in the table, and the exit code is 3.
"""
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import _output
from harness.cli._exit import DEVICE_TROUBLE

if TYPE_CHECKING:
    from harness.device import AgentTransport
    from harness.fleet import DeviceSpec
    from harness.home import Home

ORDER = 15
MAX_AGE_DAYS = 30.0

AT_ONCE = 8                                     # devices that are provisioned at the same time
DEVICES_HELP = "Names, globs or tag:x; default: all."
FLEET_HELP = "Fleet file; default: ./fleet.toml, else this machine."

app = typer.Typer(help="Prepare and clean devices: provision, gc.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def provision(
    devices: Annotated[list[str] | None, typer.Argument(help=DEVICES_HELP)] = None,
    fleet: Annotated[Path | None, typer.Option(help=FLEET_HELP)] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take it away: the device's own Python serves.")] = False,
) -> None:
    """Give devices an inference runtime of their own.

    It lies in the agent's private folder, and the agent is started with it from then on; nothing else on the device
    changes, and it needs no root and no internet over there. A device with a Python gets the wheels that fit it, a
    64-bit ARM device without one a Python, numpy and onnxruntime with their own C library.

    \b
    Examples:
      edgefleet device provision nano-a
      edgefleet device provision tag:phone --fleet bench.toml
      edgefleet device provision nano-a --remove
    """
    chosen, home = _chosen(devices, fleet), _output.new_home()
    one = _remove if remove else _provision
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        answers = list(pool.map(lambda spec: one(spec, home), chosen))
    _show(("device", "kind", "runtime", "MB pushed>", "trouble"), answers)


@app.command()
def gc(
    devices: Annotated[list[str] | None, typer.Argument(help=DEVICES_HELP)] = None,
    fleet: Annotated[Path | None, typer.Option(help=FLEET_HELP)] = None,
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
    home = _output.new_home()
    answers = [_collect(one, home, max_age_days, max_mb) for one in _chosen(devices, fleet)]
    _show(("device", "files removed>", "MiB kept>", "trouble"), answers)


def _chosen(devices: list[str] | None, fleet: Path | None) -> "list[DeviceSpec]":
    """Those that are there: a simulated device keeps nothing."""
    from harness.fleet import FLEET_FILE, host_only, load_fleet

    path = fleet or (Path(FLEET_FILE) if Path(FLEET_FILE).is_file() else None)
    spec = load_fleet(path) if path else host_only()
    return [one for one in spec.select(devices or ["*"], str(path or "the fleet")) if one.transport != "simulated"]


def _show(columns: Sequence[str], answers: Sequence[Sequence[object]]) -> None:
    """The last cell of a line is its trouble."""
    _output.table(columns, answers)
    if any(answer[-1] for answer in answers):
        raise typer.Exit(DEVICE_TROUBLE)


def _collect(spec: "DeviceSpec", home: "Home", max_age_days: float, max_mb: float | None) -> Sequence[object]:
    from harness.device import open_device
    from harness.errors import DeviceError, TrialError

    try:
        device = open_device(spec, home)
        try:
            removed, kept_mb = device.collect_garbage(max_age_days, max_mb)
        finally:
            device.close()
    except (DeviceError, TrialError) as error:
        return spec.name, None, None, str(error)
    return spec.name, removed, f"{kept_mb:.1f}", ""


def _provision(spec: "DeviceSpec", home: "Home") -> Sequence[object]:
    from harness.runtimes.provision import provision

    def work(transport: "AgentTransport") -> Sequence[object]:
        made = provision(spec.name, transport, home.cache / "runtimes", _output.words)
        return spec.name, made.kind, made.runtime, f"{made.pushed_b / 1e6:.1f}", ""

    return _with_cable(spec, home, work)


def _remove(spec: "DeviceSpec", home: "Home") -> Sequence[object]:
    from harness.runtimes.provision import remove

    def work(transport: "AgentTransport") -> Sequence[object]:
        return spec.name, "removed" if remove(transport) else "had none", None, None, ""

    return _with_cable(spec, home, work)


def _with_cable(spec: "DeviceSpec", home: "Home",
                work: "Callable[[AgentTransport], Sequence[object]]") -> Sequence[object]:
    from harness.device import open_transport
    from harness.errors import DeviceError

    try:
        transport = open_transport(spec, home)
        try:
            return work(transport)
        finally:
            transport.close()
    except DeviceError as error:
        return spec.name, None, None, None, str(error)
