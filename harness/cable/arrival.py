"""A file on its way from a device: written to `.part`, renamed when all of it is here. For the transports' pull."""
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.errors import ConfigError


@contextlib.contextmanager
def arriving(destination: Path) -> Iterator[Callable[[bytes], None]]:
    """Gives the function that takes the file's pieces. Renames when the block ends well, leaves nothing otherwise.

    Raises ConfigError when this machine cannot write it, which is not to be mistaken for a lost device.
    """
    part = destination.with_name(destination.name + ".part")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        file = part.open("wb")
    except OSError as error:
        raise ConfigError(f"cannot write {part}: {error.strerror}") from None

    def save(chunk: bytes) -> None:
        try:
            file.write(chunk)
        except OSError as error:
            raise ConfigError(f"cannot write {part}: {error.strerror}; free some space and run again") from None

    try:
        with file:
            yield save
        part.replace(destination)
    finally:
        part.unlink(missing_ok=True)
