"""Counters of a training run, and the checkpoint from which it goes on when it was killed.

Called by train.py after every epoch. A checkpoint that cannot be read is dropped, and one that cannot be written is a
UserError: whoever trains for hours must know early that a kill would cost them.
"""
import contextlib
import time
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import nn

from device_agents.seams import UserError

CHECKPOINT_EVERY_S = 5.0


class Run:
    """`path` is read when it exists, written now and then, and removed by the caller. None: nothing is kept."""

    def __init__(self, net: nn.Module, optimizer: torch.optim.Optimizer, path: Path | None) -> None:
        self.net, self.optimizer, self.path = net, optimizer, path
        self.epochs = self.steps = self.passes = 0
        self.seconds = self.seconds_before = self.last_loss = 0.0
        self.saved = time.monotonic()

    def resume(self) -> int:
        """Load the checkpoint, if there is a readable one; the epoch to go on with."""
        if self.path is None or not self.path.exists():
            return 0
        try:
            value = torch.load(self.path, weights_only=True)
            self.net.load_state_dict(value["net"])
            self.optimizer.load_state_dict(value["optimizer"])
        except (OSError, RuntimeError, KeyError, ValueError, EOFError, UnpicklingError):
            self.path.unlink()                  # cut short or of another version: begin again
            return 0
        self.epochs, self.steps, self.passes = value["epochs"], value["steps"], value["passes"]
        self.seconds_before = self.seconds = value["seconds"]
        self.last_loss = value["last_loss"]
        return self.epochs

    def save(self) -> None:
        """Now and then. Raises UserError when the disk is full or the folder may not be written."""
        if self.path is None or time.monotonic() - self.saved < CHECKPOINT_EVERY_S:
            return
        part = self.path.with_suffix(".part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            torch.save({"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict(), "epochs": self.epochs,
                        "steps": self.steps, "passes": self.passes, "seconds": self.seconds,
                        "last_loss": self.last_loss}, part)
            part.replace(self.path)
        except (OSError, RuntimeError) as error:    # torch reports a full disk as a RuntimeError
            with contextlib.suppress(OSError):
                part.unlink()
            raise UserError(f"cannot keep the training's checkpoint in {self.path}: {str(error).splitlines()[0]}. Free "
                            "some space and run again: it goes on from the last one") from None
        self.saved = time.monotonic()
