"""Data sets as published: incomplete or foreign files are refused with a reason, and a pickle cannot run code."""
import pickle
import wave
from pathlib import Path

import numpy as np
import pytest

from device_agents.seams import UserError
from workloads.cifar_files import read_pickle
from workloads.recipe import load_task
from workloads.splits import held_out, stratified
from workloads.tasks import har
from workloads.tasks.fsdd import log_mel, read_clip


@pytest.mark.parametrize("task", ["cifar10", "cifar100", "har", "fsdd"])
def test_missing_data_say_what_to_do(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEFLEET_DATA", raising=False)
    with pytest.raises(UserError, match="set EDGEFLEET_DATA"):
        load_task(task).checksum()
    monkeypatch.setenv("EDGEFLEET_DATA", str(tmp_path))
    with pytest.raises(UserError, match="there is no folder"):
        load_task(task).load()


@pytest.mark.parametrize(("task", "folder"), [("cifar10", "cifar-10-batches-py"), ("cifar100", "cifar-100-python"),
                                              ("har", "UCI HAR Dataset"), ("fsdd", "free-spoken-digit-dataset")])
def test_an_incomplete_folder_is_refused(task: str, folder: str, tmp_path: Path,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / folder).mkdir()
    monkeypatch.setenv("EDGEFLEET_DATA", str(tmp_path))
    for action in (load_task(task).checksum, load_task(task).load):
        with pytest.raises(UserError, match="incomplete"):
            action()


def test_a_foreign_cifar_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name in ("train", "test"):
        (folder / name).write_bytes(pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"fine_labels": [1]}))
    monkeypatch.setenv("EDGEFLEET_DATA", str(tmp_path))
    with pytest.raises(UserError, match="not the published file"):
        load_task("cifar100").load()


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this must never be printed",)


@pytest.mark.parametrize("data", [pickle.dumps(Evil()), pickle.dumps({b"data": Evil()}), b"", b"nonsense",
                                  pickle.dumps([1, 2])])
def test_a_pickle_of_anything_else_is_refused(data: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="is no CIFAR file"):
        read_pickle(data, "file")
    assert capsys.readouterr().out == ""


def test_a_pickle_of_arrays_and_containers_is_read() -> None:
    value = {b"data": np.arange(6, dtype=np.uint8).reshape(2, 3), b"labels": [1, 2], b"batch_label": b"x"}
    found = read_pickle(pickle.dumps(value, protocol=3).replace(b"numpy._core", b"numpy.core"), "file")
    assert np.array_equal(found[b"data"], value[b"data"])
    assert found[b"labels"] == [1, 2]


def write_clip(path: Path, channels: int, frames: bytes) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(frames)


def test_a_clip_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "0_jo_0.wav"
    write_clip(path, 2, b"\0" * 64)
    with pytest.raises(UserError, match="not mono 16-bit"):
        read_clip(path)
    path.write_bytes(b"RIFF")
    with pytest.raises(UserError, match="cannot be read"):
        read_clip(path)


@pytest.mark.parametrize("cut", [1, 2, 31])
def test_a_clip_that_is_cut_short_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "0_jo_0.wav"
    write_clip(path, 1, b"\1\2" * 32)
    assert len(read_clip(path)) == 32
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(UserError, match=rf"0_jo_0\.wav is cut short: {64 - cut} of 64 bytes .* clone"):
        read_clip(path)


@pytest.fixture
def har_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten windows of each activity, of noise, in the published layout."""
    folder = tmp_path / har.FOLDER
    for part in ("train", "test"):
        signals = folder / part / "Inertial Signals"
        signals.mkdir(parents=True)
        np.savetxt(folder / part / f"y_{part}.txt", np.arange(60) % 6 + 1, fmt="%d")
        for number, name in enumerate(har.SIGNALS):
            noise = np.random.default_rng(number).standard_normal((60, har.STEPS))
            np.savetxt(signals / f"{name}_{part}.txt", noise, fmt="%.3f")
    monkeypatch.setenv("EDGEFLEET_DATA", str(tmp_path))
    return folder


def test_a_whole_har_folder_is_read(har_folder: Path) -> None:
    data = load_task("har").load()
    assert [len(split.y) for split in data] == [48, 12, 60]
    assert set(data.train.y.tolist()) == set(range(6))


@pytest.mark.parametrize(("name", "row", "text", "says"), [
    ("y_test.txt", 7, "9", "whole number from 1 to 6"),
    ("y_test.txt", 7, "0", "whole number from 1 to 6"),
    ("y_test.txt", 7, "1.5", "whole number from 1 to 6"),
    ("y_test.txt", 7, "walking", "is damaged"),
    ("Inertial Signals/body_acc_x_test.txt", 7, " ".join(["nan"] * har.STEPS), "row 7 holds a number that is not f"),
    ("Inertial Signals/total_acc_z_test.txt", 9, " ".join(["1e99"] * har.STEPS), "row 9 holds a number"),
    ("Inertial Signals/total_acc_z_test.txt", 60, "", "has shape"),
])
def test_damaged_har_files_are_refused_by_name(har_folder: Path, name: str, row: int, text: str, says: str) -> None:
    path = har_folder / "test" / name
    lines = path.read_text().splitlines()
    lines[row - 1] = text
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=rf"{path.name} .*{says}.*unpack the data set again"):
        load_task("har").load()


def test_log_mel_finds_the_pitch_and_the_moment() -> None:
    at_hz = [np.sin(2 * np.pi * hz * np.arange(2000) / 8000).astype(np.float32) for hz in (300, 3000)]
    low, high = (log_mel(clip) for clip in at_hz)
    assert low.shape == high.shape == (40, 64)
    middle = slice(26, 38)                           # a quarter of a second, centred in one second
    assert low[:, middle].mean(axis=1).argmax() < high[:, middle].mean(axis=1).argmax()
    assert low[:, middle].max() > low[:, :8].max() + 5
    assert log_mel(np.ones(20_000, np.float32)).shape == (40, 64)


def test_stratified_sizes_are_exact_and_proportional() -> None:
    labels = np.repeat(np.arange(3), [50, 30, 20]).astype(np.int64)
    chosen, rest = stratified(labels, 11, seed=4)
    assert (len(chosen), len(rest)) == (11, 89)
    assert set(chosen.tolist()).isdisjoint(rest.tolist())
    assert np.bincount(labels[chosen]).tolist() == [6, 3, 2]
    assert np.array_equal(chosen, stratified(labels, 11, seed=4)[0])
    assert not np.array_equal(chosen, stratified(labels, 11, seed=5)[0])
    with pytest.raises(ValueError, match="cannot take"):
        stratified(labels, 101, seed=4)


def test_images_that_are_in_the_test_set_are_not_trained_on() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (40, 3, 2, 2)).astype(np.uint8), (np.arange(40) % 2).astype(np.int64)
    x[7] = x[3]
    data = held_out(x, y, x[:2].copy(), y[:2], 10, 1, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert (len(data.train.y), len(data.val.y), len(data.test.y)) == (27, 10, 2)
    assert np.allclose(data.test.x[0], x[0] / 127.5 - 1, atol=1e-5)
