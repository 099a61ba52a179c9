"""Task fsdd: spoken digits of six people at 8 kHz as log-mel pictures, from `free-spoken-digit-dataset/recordings`.

Source: Jakobovski/free-spoken-digit-dataset, CC BY-SA 4.0. Takes 0-4 of every person and digit are the test split, as
published; takes 5-9 are the validation split. A clip is centred in one second, then 40 mel bands x 64 frames
(Hann window of 25 ms, hop 15.6 ms), logarithmic, normalised by the training split. Shape (1, 40, 64).
"""
import math
import re
import wave
from pathlib import Path

import numpy as np

from device_agents.seams import UserError
from workloads.data_folder import content_digest, published_folder
from workloads.seams import Dataset, Floats, Labels, Split, Task

FOLDER = "free-spoken-digit-dataset"
NAME = re.compile(r"(\d)_([a-z]+)_(\d+)\.wav")
RATE_HZ, SAMPLES, WINDOW, HOP, FFT, BANDS, FRAMES = 8000, 8000, 200, 125, 256, 40, 64
LOW_HZ, HIGH_HZ = 50.0, 3900.0
TEST_TAKES, VALIDATION_TAKES = range(5), range(5, 10)
CLIPS_LEAST = 300                               # ten digits, six people, five takes: less is no data set


class Fsdd(Task):
    classes = 10
    shape = (1, BANDS, FRAMES)
    augment = {"shift": 3}  # noqa: RUF012

    def checksum(self) -> str:
        return content_digest(_clips())

    def load(self) -> Dataset:
        paths = _clips()
        pictures = np.stack([log_mel(read_clip(path)) for path in paths])[:, None]
        digits, takes = _facts(paths)
        test, val = np.isin(takes, TEST_TAKES), np.isin(takes, VALIDATION_TAKES)
        train = ~test & ~val
        mean, std = pictures[train].mean(), pictures[train].std()
        pictures = ((pictures - mean) / std).astype(np.float32)
        splits = [Split(pictures[rows], digits[rows]) for rows in (train, val, test)]
        return Dataset(*splits)


def read_clip(path: Path) -> Floats:
    """Mono 16-bit samples as -1..1. Raises UserError for any other kind of file."""
    try:
        with wave.open(str(path)) as file:
            kind = (file.getframerate(), file.getnchannels(), file.getsampwidth())
            frames = file.getnframes()
            data = file.readframes(frames)
    except (wave.Error, EOFError, OSError) as error:
        raise UserError(f"task fsdd: {path} cannot be read: {error}") from None
    if kind != (RATE_HZ, 1, 2) or not data:
        raise UserError(f"task fsdd: {path} is not mono 16-bit at {RATE_HZ} Hz, or is empty")
    if len(data) != 2 * frames:
        raise UserError(f"task fsdd: {path} is cut short: {len(data)} of {2 * frames} bytes of sound are there; clone "
                        "the data set again")
    return np.frombuffer(data, "<i2").astype(np.float32) / 32768.0


def log_mel(clip: Floats) -> Floats:
    """(BANDS, FRAMES) of natural logarithms of mel energies."""
    missing = SAMPLES - len(clip)
    clip = clip[-missing // 2:][:SAMPLES] if missing < 0 else np.pad(clip, (missing // 2, missing - missing // 2))
    clip = np.pad(clip, (0, WINDOW))
    frames = np.stack([clip[start:start + WINDOW] for start in range(0, FRAMES * HOP, HOP)])
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(WINDOW), FFT)) ** 2
    return np.log(spectrum @ _filters().T + 1e-6).T.astype(np.float32)


def _filters() -> Floats:
    """(BANDS, FFT / 2 + 1) triangles, evenly spaced on the mel scale 2595 log10(1 + f/700)."""
    low, high = (2595 * math.log10(1 + edge / 700) for edge in (LOW_HZ, HIGH_HZ))
    mel = np.linspace(low, high, BANDS + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    bins = np.fft.rfftfreq(FFT, 1 / RATE_HZ)
    up = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    down = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(up, down)).astype(np.float32)


def _clips() -> list[Path]:
    folder = published_folder("fsdd", FOLDER, "clone github.com/Jakobovski/free-spoken-digit-dataset there")
    paths = sorted(path for path in (folder / "recordings").glob("*.wav") if NAME.fullmatch(path.name))
    digits, takes = _facts(paths)
    for name, wanted in (("test", TEST_TAKES), ("validation", VALIDATION_TAKES)):
        if set(digits[np.isin(takes, wanted)].tolist()) != set(range(10)):
            raise UserError(f"task fsdd: {folder / 'recordings'} is incomplete: the {name} takes lack a digit")
    if len(paths) < CLIPS_LEAST:
        raise UserError(f"task fsdd: {folder / 'recordings'} holds {len(paths)} clips only; clone the data set again")
    return paths


def _facts(paths: list[Path]) -> tuple[Labels, Labels]:
    """Digit and take of each file, from its name."""
    found = [match for path in paths if (match := NAME.fullmatch(path.name))]
    digits, takes = ([int(match[group]) for match in found] for group in (1, 3))
    return np.array(digits, np.int64), np.array(takes, np.int64)
