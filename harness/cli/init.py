"""`edgefleet init`: a first fleet.toml from the phones that adb lists and the hosts that ~/.ssh/config names."""
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import _output

if TYPE_CHECKING:
    from harness.cable.adb_program import AdbDevice

ORDER = 5


def init(
    output: Annotated[Path | None, typer.Option(help="Write here, where no file is; default: stdout.")] = None,
    ssh_config: Annotated[Path, typer.Option(help="The file that names hosts.")] = Path("~/.ssh/config"),
) -> None:
    """Propose a fleet.toml from adb and ~/.ssh/config.

    Connects to no device. Hosts that are patterns are left out; a phone that has not allowed this machine is commented
    out, with what to do. Never overwrites a file.

    \b
    Examples:
      edgefleet init
      edgefleet init --output fleet.toml
    """
    from harness.errors import ConfigError
    from harness.inventory import propose, ssh_hosts

    if output is not None and output.exists():
        raise ConfigError(f"{output} is there already and stays as it is; name another file, or compare by hand: "
                          f"edgefleet init | diff {output} -")
    phones, note = _phones()
    text = propose(ssh_hosts(ssh_config.expanduser()), phones, note)
    if output is None:
        typer.echo(_output.clean(text), nl=False)
        return
    try:
        file = output.open("x", encoding="utf-8")   # a file may have come there meanwhile
        try:
            with file:
                file.write(_output.clean(text))
        except BaseException:
            output.unlink()
            raise
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error.strerror}") from None
    _output.words(f"wrote {output}; delete what is no device, then: edgefleet doctor")


def _phones() -> "tuple[list[AdbDevice], str]":
    """What is attached, and why nothing could be listed."""
    from harness.cable.adb_program import AdbProgram
    from harness.errors import ConfigError, DeviceError

    try:
        adb = AdbProgram({})
        adb.start_server("this machine")
        return adb.devices(), ""
    except (ConfigError, DeviceError) as error:
        return [], f"No phones are listed: {error}"
