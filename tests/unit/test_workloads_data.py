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


def test_a_clip_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "0_jo_0.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"\0" * 64)
    with pytest.raises(UserError, match="not mono 16-bit"):
        read_clip(path)
    path.write_bytes(b"RIFF")
    with pytest.raises(UserError, match="cannot be read"):
        read_clip(path)


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
