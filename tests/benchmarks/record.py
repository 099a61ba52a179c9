"""Runs every bench_*.py beside it and rewrites docs/benchmarks.md from what they print. `make bench` calls it.

A benchmark is a script that prints one JSON line a figure: {"figure", "value", "target", "unit", "command"} and
optionally "note"; its other lines are passed on. `target` reads ">= 0.97" or "<= 60", or is empty when there is none.
A script that trains states hours of its own, as `DEADLINE_S = 6 * 3600`. Figures are never asserted in tests: a machine
may be slow or busy. A script that fails leaves a row that says so. What follows `--` goes to the scripts; figures that
they therefore did not measure keep their rows, which the section says.
"""
import json
import operator
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DOCUMENT = ROOT / "docs" / "benchmarks.md"
DEADLINE_S = 900
HOLDS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
KEYS = {"figure", "value", "target", "unit", "command"}

HEADER = """\
# Figures, measured

Written by `make bench` from the scripts in `tests/benchmarks/`, a section a script; do not edit. Ratios compare two
things inside one run, interleaved, because the speed of a shared machine drifts; a section says how busy the machine
was in the minute before it (well below 1 on a quiet one). Nothing here was measured on a real board. One section again:
`python tests/benchmarks/record.py loop`.

Machine: {machine}.
"""
SECTION = """
## {name}

Recorded {date}, load average {load:.1f}{options}.

| figure | value | target | met | command |
|---|---:|---|---|---|
"""


def main() -> int:
    scripts = sorted(HERE.glob("bench_*.py"))
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    wanted, options = sys.argv[1:at], sys.argv[at + 1:]
    known = [name_of(script) for script in scripts]
    if unknown := [name for name in wanted if name not in known]:
        print(f"no benchmarks named {', '.join(unknown)}; there is: {', '.join(known)}. Options of a script follow --, "
              "as in: record.py accuracy -- --only har", file=sys.stderr)
        return 2
    if wanted:
        scripts = [script for script in scripts if name_of(script) in wanted]
    failed = False
    for script in scripts:
        load = os.getloadavg()[0]
        found = figures_of(script, options=options)
        failed = failed or any("failed" in row for row in found)
        lines = [line_of(row) for row in found]
        print("".join(lines), end="", flush=True)
        before = DOCUMENT.read_text() if DOCUMENT.exists() else ""
        kept = rows_beside(before, name_of(script), lines) if options else []
        date = time.strftime("%Y-%m-%d", time.gmtime())
        said = f", with `{' '.join(options)}`" if options else ""
        said += f"; the last {len(kept)} rows are of an earlier run" if kept else ""
        text = SECTION.format(name=name_of(script), date=date, load=load, options=said) + "".join([*lines, *kept])
        partial = DOCUMENT.with_suffix(".md.part")
        partial.write_text(with_section(before, name_of(script), text, known))
        partial.replace(DOCUMENT)
    return 1 if failed else 0


def name_of(script: Path) -> str:
    return script.stem.removeprefix("bench_")


def with_section(document: str, name: str, text: str, known: Sequence[str]) -> str:
    """The document with one section made anew; sections of scripts that are gone go, too."""
    parts = {part.partition("\n")[0]: f"\n## {part}" for part in document.split("\n## ")[1:]}
    parts[name] = text
    return HEADER.format(machine=machine()) + "".join(parts[one].rstrip("\n") + "\n" for one in known if one in parts)


def rows_beside(document: str, name: str, lines: Sequence[str]) -> list[str]:
    """The section's rows of other figures than those in `lines`, whatever their notes; none of scripts that failed."""
    section = next((part for part in document.split("\n## ")[1:] if part.partition("\n")[0] == name), "")
    new = {_figure(line) for line in lines}
    return [f"{line}\n" for line in section.splitlines() if line.startswith("| ") and "| failed: " not in line
            and not line.startswith("| figure |") and _figure(line) not in new]


def _figure(line: str) -> str:
    """Without its note, which holds what was seen."""
    return line.split(" | ")[0].partition(" (")[0]


def figures_of(script: Path, root: Path = ROOT, options: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The figures that a script printed, and a row {"figure", "failed"} when it did not end well."""
    name = script.relative_to(root).as_posix()
    print(f"== {name}", file=sys.stderr)
    try:
        done = subprocess.run([sys.executable, name, *options], cwd=root, stdout=subprocess.PIPE, text=True,
                              timeout=deadline_s(script), check=False)
    except subprocess.TimeoutExpired:
        return [{"figure": name, "failed": f"no end within {deadline_s(script)} s"}]
    rows = []
    for line in done.stdout.splitlines():
        row = as_figure(line)
        if row is None:
            print(line, file=sys.stderr)
        else:
            rows.append(row)
    if done.returncode != 0 or not rows:
        rows.append({"figure": name, "failed": f"exit code {done.returncode}, {len(rows)} figures"})
    return rows


def deadline_s(script: Path) -> int:
    stated = re.search(r"^DEADLINE_S = (\d+) \* 3600\b", script.read_text(encoding="utf-8"), re.M)
    return 3600 * int(stated[1]) if stated else DEADLINE_S


def as_figure(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and row.keys() >= KEYS else None


def line_of(row: dict[str, Any]) -> str:
    if "failed" in row:
        return f"| {row['figure']} | failed: {row['failed']} | | no | |\n"
    figure = f"{row['figure']} ({row['note']})" if row.get("note") else row["figure"]
    if row["value"] is None:
        return f"| {figure} |  | {row['target']} |  | `{row['command']}` |\n"
    value = f"{row['value']:.4g}" if isinstance(row["value"], float) else str(row["value"])
    unit = f" {row['unit']}" if row["unit"] else ""
    return f"| {figure} | {value}{unit} | {row['target']} | {met(row)} | `{row['command']}` |\n"


def met(row: dict[str, Any]) -> str:
    """yes or no; empty when the target is not a bound."""
    bound = re.fullmatch(r"([<>]=?)\s*([\d.]+).*", str(row["target"]))
    if bound is None or row["value"] is None:
        return ""
    value, limit = float(row["value"]), float(bound[2])
    return "yes" if HOLDS[bound[1]](value, limit) else "no"


def machine() -> str:
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            model = line.partition(":")[2].strip()
            break
    return f"{os.cpu_count()} cores, {model}, {platform.machine()}, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
