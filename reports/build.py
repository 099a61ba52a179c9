"""Database -> folder of tables, figures and the page. Called by `edgefleet report` and at the end of `edgefleet run`.

Every file of tables/ and figures/ is made; there is no list to edit. All bytes are computed before the first is
written, into a folder beside `out` that then takes its place, so a reader sees the old report or the new one. Same
database, same bytes. Refuses to replace a folder that is not a report.
"""
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from device_agents import registry
from device_agents.seams import UserError
from reports import figure, table_files
from reports.figure import Drawing
from reports.page.render import page
from reports.query import Query, opened
from reports.table import Missing, Table

MANIFEST = "report.json"
TEXT_WIDTH = 110                                # of the .txt files; what does not fit is in the CSV


def build(database: Path, out: Path, campaign: str | None = None) -> list[Path]:
    """Write the report of `campaign` (default: the one that ran last) to the folder `out`, in place of an older one.

    Returns the files, sorted. Raises UserError (no database, unknown campaign, nothing done, `out` holds something
    else or cannot be written) and StoreError; then nothing has changed.
    """
    _refuse_foreign(out)
    with opened(database, campaign) as query:
        files = render(query)
    _publish(files, out)
    return sorted(out / name for name in files)


def overall(database: Path, campaign: str | None = None) -> Table:
    """The main table, for a terminal: `table_files.to_text(overall(path), width)`. Raises as `build` does."""
    with opened(database, campaign) as query:
        table: Table = registry.load_module("reports.tables", "overall").make(query)
    return table


def render(query: Query) -> dict[str, bytes]:
    """Every file of the report by its path within the folder."""
    tables: dict[str, Table] = {name: module.make(query) for name, module in plugins("tables").items()}
    drawings: dict[str, Drawing | Missing] = {name: module.draw(query) for name, module in plugins("figures").items()}
    files: dict[str, bytes] = {}
    for name, table in tables.items():
        texts = {"md": table_files.to_markdown(table), "csv": table_files.to_csv(table),
                 "tex": table_files.to_latex(table, name), "txt": table_files.to_text(table, TEXT_WIDTH)}
        files.update({f"tables/{name}.{ending}": text.encode() for ending, text in texts.items()})
    for name, drawing in drawings.items():
        if isinstance(drawing, Drawing):
            files.update({f"figures/{name}.{ending}": content for ending, content in figure.render(drawing).items()})
            files[f"figures/{name}.csv"] = table_files.to_csv(drawing.data).encode()
            files[f"figures/{name}.json"] = table_files.to_json(drawing.data, drawing.caption).encode()
    folded = {name for name, module in plugins("tables").items() if module.FOLDED}
    files["index.html"] = page(query, tables, drawings, folded).encode()
    files[MANIFEST] = _manifest(query, files)
    return files


def plugins(folder: str) -> dict[str, Any]:
    """Modules of reports/tables/ or reports/figures/ by name, in the order of their PLACE."""
    found = {name: registry.load_module(f"reports.{folder}", name) for name in registry.names(f"reports.{folder}")}
    return dict(sorted(found.items(), key=lambda item: (item[1].PLACE, item[0])))


def _manifest(query: Query, files: Mapping[str, bytes]) -> bytes:
    """What makes a folder a report of ours, and lets anyone check that no file of it was edited."""
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    document = {"report": "edgefleet", "campaign": query.campaign.name, "sha256": sums}
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def _refuse_foreign(out: Path) -> None:
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise UserError(f"{out} is not a folder. Name one with --out: a new one, or that of an earlier report.")
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise UserError(f"{out} holds files that are no report of edgefleet's, and a report would replace them. "
                        "Name another folder with --out.")


def _publish(files: Mapping[str, bytes], out: Path) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with _alone_in(out.parent):
            _replace(files, out)
    except OSError as error:
        raise UserError(f"{out}: the report cannot be written ({error.strerror or error}); an older one is left as it "
                        "was. Free some space or name another folder with --out.") from error


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """One writer of reports at a time; the lock is the folder's own and goes with the process."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another report is being written in {folder}. Wait for it, then try again.") from None
        yield
    finally:
        os.close(handle)


def _replace(files: Mapping[str, bytes], out: Path) -> None:
    """Write beside `out`, then swap by two renames; what an interrupted build left beside it is removed first."""
    for left in out.parent.glob(f".{out.name}.new-*"):
        shutil.rmtree(left)
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}.new-", dir=out.parent))
    try:
        fresh, old = scratch / "fresh", scratch / "old"
        for name, content in files.items():
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            (fresh / name).write_bytes(content)
        if out.exists():
            out.rename(old)
        try:
            fresh.rename(out)
        except OSError:
            if old.exists():
                old.rename(out)
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
