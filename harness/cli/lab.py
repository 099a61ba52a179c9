"""`edgefleet lab`: a virtual fleet of real sshd and real adbd devices: up, down, inject a fault."""
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import _output

ORDER = 130
FAULTS_HELP = ("cut, restore, freeze, kill-session, kill-agent, out-of-memory, disk-full, reboot, throttle, slow-link "
               "or new-host-key.")
FOLDER_HELP = "Folder of the lab; default: lab/ in the home."

app = typer.Typer(help="A virtual fleet: real sshd and adbd on this machine, and faults.",
                  no_args_is_help=True, rich_markup_mode=None)


@app.command()
def up(
    ssh: Annotated[int, typer.Option(min=0, max=100, help="Boards behind sshd.")] = 6,
    adb: Annotated[int, typer.Option(min=0, max=50, help="Phones behind adbd.")] = 2,
    loopback: Annotated[bool, typer.Option("--loopback", help="Without root: sshd on loopback, --adb 0.")] = False,
    folder: Annotated[Path | None, typer.Option(help=FOLDER_HELP)] = None,
) -> None:
    """Start a virtual fleet and write its fleet.toml.

    Where the current folder has no fleet.toml, it gets a link to it, so that every other verb finds the lab.

    Needs root, because every device has namespaces, a link and a disk of its own. Its sensors are fixtures, and it
    computes as fast as this machine: it shows that things work, never how fast a board is.

    \b
    Examples:
      sudo edgefleet lab up --ssh 6 --adb 2
      edgefleet lab up --loopback --ssh 2 --adb 0
      edgefleet doctor --fleet .edgefleet/lab/fleet.toml
    """
    from harness.fleet import FLEET_FILE
    from harness.lab import lab

    home = _output.new_home()
    made = lab.up(folder or lab.default_folder(home.path), ssh, adb, home.cache, _output.words, unprivileged=loopback)
    _output.words(f"{len(made.members)} devices are up: {', '.join(member.name for member in made.members)}")
    if made.point_here(Path(FLEET_FILE)):
        _output.words(f"./{FLEET_FILE} points to its fleet file until it is down; next: edgefleet doctor")
    else:
        _output.words(f"next: edgefleet doctor --fleet {made.fleet}")
    typer.echo(made.fleet)


@app.command()
def down(folder: Annotated[Path | None, typer.Option(help=FOLDER_HELP)] = None) -> None:
    """End the virtual fleet; nothing of it stays.

    \b
    Examples:
      sudo edgefleet lab down
    """
    from harness.lab import lab

    lab.down(_existing(folder))
    _output.words("the lab is down")


@app.command()
def fault(
    device: Annotated[str, typer.Argument(help="Name of a lab device.")],
    kind: Annotated[str, typer.Argument(metavar="FAULT", help=FAULTS_HELP)],
    delay_ms: Annotated[float, typer.Option(min=0, help="slow-link: each way.")] = 40.0,
    jitter_ms: Annotated[float, typer.Option(min=0, help="slow-link: plus or minus.")] = 10.0,
    loss: Annotated[float, typer.Option(min=0, max=1, help="slow-link: share of frames lost.")] = 0.01,
    rate_mbit: Annotated[float, typer.Option(min=0, help="slow-link: Mbit/s each way; 0 = no limit.")] = 5.0,
    folder: Annotated[Path | None, typer.Option(help=FOLDER_HELP)] = None,
) -> None:
    """Break something about a lab device, or mend it.

    `restore` mends whatever was done, apart from a new host key.

    \b
    Examples:
      sudo edgefleet lab fault lab-nano-a cut
      sudo edgefleet lab fault lab-phone-a slow-link --delay-ms 100 --rate-mbit 2
      sudo edgefleet lab fault lab-nano-a restore
    """
    from harness.lab import faults, lab
    from harness.lab.wire import Shape

    shape = Shape(delay_ms=delay_ms, jitter_ms=jitter_ms, loss=loss, rate_mbit=rate_mbit)
    faults.inject(lab.open_lab(_existing(folder)), device, kind, shape)
    _output.words(f"{device}: {kind}")


def _existing(folder: Path | None) -> Path:
    from harness.errors import ConfigError
    from harness.lab.lab import default_folder

    if folder is not None:
        return folder
    home = _output.home_if_any()
    if home is None:
        raise ConfigError("no lab is up here; start one: edgefleet lab up")
    return default_folder(home.path)
