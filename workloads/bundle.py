"""Bundles on disk: a folder named by the sha256 of its manifest, which names every other file by its sha256.

    <id>/manifest.json  <branch>.onnx ...  samples.bin  labels.json      what the id covers, and the manifest's `files`
    <id>/policies/<method>.json  training.json  searches/<case>.json    beside it: may grow, and differ by run

Written by build.py and import_onnx.py, opened by the harness (no torch here). A folder whose bytes do not fit their
hashes is refused. Writing is atomic: a temporary folder, renamed.
"""
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from device_agents.seams import UserError
from device_agents.wire import Branch, BranchBundle, bundle_from_json, bundle_to_json, canonical_json
from workloads.recipe import Recipe
from workloads.seams import Split

MANIFEST, SAMPLES, LABELS, POLICIES, SEARCHES, TRAINING = (
    "manifest.json", "samples.bin", "labels.json", "policies", "searches", "training.json")
_ID = re.compile(r"[0-9a-f]{64}")


class BundleFolder(NamedTuple):
    """An opened, verified bundle. `files` maps sha256 to path, the manifest's under the bundle's id included."""

    bundle: BranchBundle
    path: Path
    files: dict[str, Path]
    policies: dict[str, dict[str, Any]]


def open_bundle(path: Path) -> BundleFolder:
    """Read and verify. Raises UserError: not a bundle, a missing file, a hash that does not fit."""
    path = Path(path)
    try:
        text = (path / MANIFEST).read_text(encoding="ascii")
        bundle = bundle_from_json(text)
    except OSError as error:
        raise UserError(f"{path} is no bundle: {MANIFEST} cannot be read ({error.strerror})") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path / MANIFEST} is damaged ({error}); delete the folder and build again") from None
    if path.name != bundle.id:
        raise UserError(f"{path / MANIFEST} was changed: its sha256 is {bundle.id[:12]}..., but the folder is named "
                        f"{path.name[:12]}...; delete the folder and build again")
    named = {bundle.samples: SAMPLES, bundle.labels: LABELS}
    named.update((branch.artifact, f"{branch.id}.onnx") for branch in bundle.branches)
    named.update((digest, name) for name, digest in bundle.files.items())
    files = {bundle.id: path / MANIFEST}
    for digest, name in named.items():
        if digest_of(path / name) != digest:
            raise UserError(f"{path / name} does not fit its hash in {MANIFEST}; delete the folder and build again")
        files[digest] = path / name
    return BundleFolder(bundle, path, files, _read_policies(path / POLICIES))


def find_bundle(home: Path, recipe: Recipe, plugin_dirs: Sequence[str] = ()) -> BundleFolder | None:
    """The bundle that this recipe made before, or None. Raises UserError when it is there but damaged.

    A damaged pointer of a recipe is as good as none, as a build writes it anew; nothing can write that of an import.
    """
    imported = imported_path(home, recipe.task, recipe.model)
    if imported.is_file():
        path = pointed(home, imported)
        if path is None:
            raise UserError(f"{imported} is damaged, or the bundle that it names was deleted; import the files of "
                            f"{recipe.model!r} again (`edgefleet bundle import`), or delete it")
    else:
        path = pointed(home, recipe_path(home, recipe, plugin_dirs))
    return open_bundle(path) if path else None


def pointed(home: Path, pointer: Path) -> Path | None:
    """The folder of the bundle that a pointer file names; None when it is damaged or missing, or its bundle is."""
    facts = _object(pointer)
    name = facts.get("bundle") if facts else None
    if not isinstance(name, str) or not _ID.fullmatch(name):
        return None
    path = home / "bundles" / name
    return path if (path / MANIFEST).exists() else None


def recipe_path(home: Path, recipe: Recipe, plugin_dirs: Sequence[str] = ()) -> Path:
    return home / "bundles" / "recipes" / f"{recipe.digest(plugin_dirs)}.json"


def imported_path(home: Path, task: str, name: str) -> Path:
    """Pointer to a bundle that was imported under a model's name; training seeds and settings mean nothing to it."""
    return home / "bundles" / "imported" / f"{task}-{name}.json"


def imported_names(home: Path) -> list[str]:
    """Model names under which bundles were imported, whatever their task.

    Of a damaged pointer it is the name in the file's own, so that a campaign that asks for it is told of the damage.
    """
    said = {path.stem.partition("-")[2]: (_object(path) or {}).get("model")
            for path in _sorted_json(home / "bundles" / "imported")}
    return sorted({model if isinstance(model, str) else name for name, model in said.items()} - {""})


def write_bundle(home: Path, bundle: BranchBundle, artifacts: Mapping[str, bytes], evaluation: Split,
                 training: Mapping[str, Any], files: Mapping[str, bytes] | None = None) -> BundleFolder:
    """Write a new bundle and open it. `artifacts` are ONNX files by branch id; hashes and id are filled in here.

    `files` by name become the manifest's; an artifact that is one of them is no ONNX file and lies under that name.
    Raises UserError when the disk is full or the folder may not be written; then nothing is left behind.
    """
    files = files or {}
    samples = np.ascontiguousarray(evaluation.x, dtype=np.dtype(bundle.dtype).newbyteorder("<")).tobytes()
    labels = canonical_json([int(label) for label in evaluation.y]).encode("ascii")
    branches = tuple(_with_file(branch, artifacts[branch.id]) for branch in bundle.branches)
    bundle = bundle._replace(samples=sha256(samples).hexdigest(), labels=sha256(labels).hexdigest(),
                             count=len(evaluation.y), branches=branches,
                             files={name: sha256(data).hexdigest() for name, data in files.items()})
    manifest = canonical_json(bundle_to_json(bundle)).encode("ascii")
    contents = {MANIFEST: manifest, SAMPLES: samples, LABELS: labels, TRAINING: _pretty(training),
                **{f"{branch}.onnx": data for branch, data in artifacts.items() if data not in files.values()}, **files}
    target = home / "bundles" / sha256(manifest).hexdigest()
    try:
        _write_folder(target, contents)
    except OSError as error:
        raise UserError(f"cannot write the bundle to {target}: {error.strerror}") from None
    return open_bundle(target)


def read_training(folder: BundleFolder, *names: str) -> dict[str, Any]:
    """training.json, which open_bundle does not verify. Raises UserError: missing, damaged, or lacks one of `names`."""
    path = folder.path / TRAINING
    facts = _object(path)
    if facts is None or not set(names) <= set(facts):
        raise UserError(f"{path} is missing or damaged; delete {folder.path} and build again")
    return facts


def write_policy(folder: BundleFolder, method: str, policy: Mapping[str, Any]) -> BundleFolder:
    """Add or replace one method's policy; the bundle's id does not change."""
    path = folder.path / POLICIES / f"{method}.json"
    path.parent.mkdir(exist_ok=True)
    write_file(path, _pretty(policy))
    return folder._replace(policies={**folder.policies, method: dict(policy)})


def write_search(folder: BundleFolder, case: str, found: Mapping[str, Any]) -> None:
    """Keep beside a derived bundle how a search for one case led to it; several devices may end at one bundle."""
    write_file(folder.path / SEARCHES / f"{case}.json", _pretty(found))


def write_file(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(data)
    part.replace(path)


def digest_of(path: Path) -> str:
    """sha256 of a file, "" when there is none."""
    try:
        return sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _object(path: Path) -> dict[str, Any] | None:
    """A file's JSON object; None when there is none, whatever the file holds."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return facts if isinstance(facts, dict) else None


def _with_file(branch: Branch, data: bytes) -> Branch:
    return branch._replace(artifact=sha256(data).hexdigest(), size_b=len(data))


def _write_folder(target: Path, files: Mapping[str, bytes]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=".part-", dir=target.parent))
    try:
        for name, data in files.items():
            (part / name).write_bytes(data)
        if target.exists():                     # the same content, or a damaged copy of it: this one is whole
            _keep_besides(target, part)
            shutil.rmtree(target)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _keep_besides(source: Path, target: Path) -> None:
    for name in (POLICIES, SEARCHES):
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name)


def _read_policies(folder: Path) -> dict[str, dict[str, Any]]:
    policies = {}
    for path in _sorted_json(folder):
        try:
            policies[path.stem] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{path} is no policy ({error}); delete it and build again") from None
    return policies


def _sorted_json(folder: Path) -> Iterable[Path]:
    return sorted(folder.glob("*.json")) if folder.is_dir() else ()


def _pretty(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode("utf-8")
