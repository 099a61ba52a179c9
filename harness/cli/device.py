"""`edgefleet device`: what is kept on a device. `gc` collects old bundles, `provision` brings an inference runtime.

A device that fails, for whatever reason, keeps the others from nothing: its reason is in the table, and the exit code
says that there is one.
"""
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import _output
from harness.cli._exit import explain

if TYPE_CHECKING:
    from harness.fleet import DeviceSpec
    from harness.home import Home

ORDER = 15
MAX_AGE_DAYS = 30.0

AT_ONCE = 8                                     # devices that are worked on at the same time
Answer = tuple[Sequence[object], int]           # a line of the table and the exit code that it calls for
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
    def one(spec: "DeviceSpec") -> Answer:
        return _tried(spec.name, 3, lambda: _remove(spec, home) if remove else _provision(spec, home))

    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        answers = list(pool.map(one, chosen))
    _show(("device", "kind", "runtime", "MB pushed>", "trouble"), answers)


@app.command()
def gc(
    devices: Annotated[list[str] | None, typer.Argument(help=DEVICES_HELP)] = None,
    fleet: Annotated[Path | None, typer.Option(help=FLEET_HELP)] = None,
    max_age_days: Annotated[float, typer.Option(min=0, help="Remove what was unused for so long.")] = MAX_AGE_DAYS,
    max_mb: Annotated[float | None, typer.Option(min=0, help="Then keep so many MiB, the latest used.")] = None,
) -> None:
    """Free space on devices: bundles that were unused for long, and trials that are in your home already.

    What a later trial needs is pushed again. A result that was not collected yet stays.

    \b
    Examples:
      edgefleet device gc
      edgefleet device gc 'phone-*' --max-age-days 0
      edgefleet device gc nano-a --max-mb 200
    """
    from db.store import Store
    from harness.collected import kept_by

    home, kept = _output.new_home(), set()
    if home.has_results():
        with Store.read_only(home.results) as store:
            kept = kept_by(store)
    def one(spec: "DeviceSpec") -> Answer:
        return _tried(spec.name, 3, lambda: _collect(spec, home, kept, max_age_days, max_mb))

    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        answers = list(pool.map(one, _chosen(devices, fleet)))
    _show(("device", "files removed>", "trials removed>", "MiB kept>", "trouble"), answers)


def _chosen(devices: list[str] | None, fleet: Path | None) -> "list[DeviceSpec]":
    """Those that are there: a simulated device keeps nothing."""
    from harness.fleet import FLEET_FILE, host_only, load_fleet

    path = fleet or (Path(FLEET_FILE) if Path(FLEET_FILE).is_file() else None)
    spec = load_fleet(path) if path else host_only()
    return [one for one in spec.select(devices or ["*"], str(path or "the fleet")) if one.transport != "simulated"]


def _tried(name: str, cells: int, work: Callable[[], Sequence[object]]) -> Answer:
    """A line of the device's name, `cells` cells and its trouble. Whatever fails, the other devices go on."""
    try:
        return (name, *work(), ""), 0
    except Exception as error:
        trouble, code = explain(error)
        return (name, *[None] * cells, trouble), code


def _show(columns: Sequence[str], answers: Sequence[Answer]) -> None:
    """A line a device; the gravest exit code of all is the verb's."""
    _output.table(columns, [line for line, _ in answers])
    if worst := max((code for _, code in answers), default=0):
        raise typer.Exit(worst)


def _collect(spec: "DeviceSpec", home: "Home", kept: set[tuple[str, int]], max_age_days: float,
             max_mb: float | None) -> Sequence[object]:
    from harness.device import open_device

    with contextlib.closing(open_device(spec, home)) as device:
        removed, kept_mb = device.collect_garbage(max_age_days, max_mb)
        trials = [name for name, state in device.trials().items() if state != "running" and name in kept]
        if trials:
            device.clean(trials)
    return removed, len(trials), f"{kept_mb:.1f}"


def _provision(spec: "DeviceSpec", home: "Home") -> Sequence[object]:
    from harness.device import open_transport
    from harness.runtimes.provision import provision

    with contextlib.closing(open_transport(spec, home)) as transport:
        made = provision(spec.name, transport, home.cache / "runtimes", _output.words)
    return made.kind, made.runtime, f"{made.pushed_b / 1e6:.1f}"


def _remove(spec: "DeviceSpec", home: "Home") -> Sequence[object]:
    from harness.device import open_transport
    from harness.runtimes.provision import remove

    with contextlib.closing(open_transport(spec, home)) as transport:
        return "removed" if remove(spec.name, transport) else "had none", None, None
