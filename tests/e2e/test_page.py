"""The report page in a real browser: headless Chromium finds tables and figures, and its console stays silent.

A copy of the page gets a probe at its end, which sorts, filters and measures as a reader would and writes what it found
into the document; Chromium dumps that document. Skipped with a reason where there is no Chromium.
"""
import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from reports.build import build
from tests.report_database import write_database

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
         "--enable-logging=stderr", "--v=0", "--virtual-time-budget=4000", "--window-size=1280,900")
HOSTILE = "<img src=x onerror=alert(1)>\"'{{7*7}}"
PROBE = """
<pre id="probe"></pre>
<script>
window.addEventListener("load", () => {
  const table = document.getElementById("table-overall"), names = [...table.tHead.rows[0].cells].map(
    (cell) => cell.querySelector("button").firstChild.textContent);
  const column = names.indexOf("latency median"), body = table.tBodies[0];
  const values = () => [...body.rows].slice(1).map((row) => Number(row.cells[column].dataset.sort));
  table.tHead.rows[0].cells[column].querySelector("button").click();
  const up = values();
  table.tHead.rows[0].cells[column].querySelector("button").click();
  const down = values();
  const filter = document.querySelector("[data-filter=table-overall]");
  filter.value = "slow-class fixed-small";
  filter.dispatchEvent(new Event("input"));
  const left = [...table.querySelectorAll("tbody:not([hidden]) tr:not(.group):not([hidden])")].length;
  document.getElementById("probe").textContent = JSON.stringify({
    up, down, left, sections: document.querySelectorAll("main > section").length,
    figures: [...document.querySelectorAll("figure img")].map((image) => [image.naturalWidth, image.naturalHeight]),
    sideways: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    sticky: getComputedStyle(table.tHead.rows[0].cells[0]).position,
    injected: document.querySelectorAll("main img:not([src^='data:'])").length,
  });
});
</script>
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    database = write_database(folder, devices=[("board", 1.0), ("slow-class", 3.0), (HOSTILE, 2.0)], inferences=60)
    build(database, folder / "reports")
    return folder / "reports" / "index.html"


def browse(path: Path, tmp_path: Path, *flags: str) -> tuple[str, list[str]]:
    """(document after its scripts ran, what the console said)."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    done = subprocess.run([CHROMIUM, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", *flags, "--dump-dom",
                           path.as_uri()], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip(), f"Chromium showed nothing (exit {done.returncode}): {done.stderr[-2000:]}"
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def probed(page: Path, tmp_path: Path, *flags: str) -> tuple[dict[str, Any], list[str]]:
    copy = tmp_path / "index.html"
    copy.write_text(page.read_text(encoding="utf-8").replace("</body>", PROBE + "</body>"), encoding="utf-8")
    document, console = browse(copy, tmp_path, *flags)
    found = re.search(r'<pre id="probe">(.*?)</pre>', document, re.DOTALL)
    assert found is not None and found.group(1), "the probe did not run to its end"
    return json.loads(html.unescape(found.group(1))), console


def test_page_shows_tables_and_figures_and_the_console_is_silent(page: Path, tmp_path: Path) -> None:
    found, console = probed(page, tmp_path)
    assert console == []
    assert len(found["up"]) == 3 and found["up"] == sorted(found["up"])
    assert found["down"] == sorted(found["up"], reverse=True)
    assert found["left"] == 2                       # the method under two traces
    assert len(found["figures"]) == 3 and all(width > 100 and height > 100 for width, height in found["figures"])
    assert found["sections"] >= 8
    assert found["sticky"] == "sticky"
    assert found["injected"] == 0
    assert found["sideways"] <= 0


def test_a_narrow_dark_screen_shows_everything_too(page: Path, tmp_path: Path) -> None:
    found, console = probed(page, tmp_path, "--window-size=500,900", "--blink-settings=preferredColorScheme=0")
    assert console == []
    assert found["sideways"] <= 0
    assert all(width > 100 for width, _ in found["figures"])


def test_the_console_would_have_been_heard(tmp_path: Path) -> None:
    path = tmp_path / "bad.html"
    path.write_text("<!DOCTYPE html><script>missing.name()</script>", encoding="utf-8")
    _, console = browse(path, tmp_path)
    assert any("missing is not defined" in line for line in console)


def test_page_loads_nothing_and_escapes_every_name(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"""(?:src|srcset|href)=["'](?!data:|#|tables/|figures/)[^"']*""", text) == []
    assert "url(" not in text and "@import" not in text
    assert "<img src=x" not in text and "&lt;img src=x onerror=alert(1)&gt;" in text
    assert "{{7*7}}" in text                        # shown as it is, never evaluated as a template
    for link in re.findall(r'href="((?:tables|figures)/[^"]+)"', text):
        assert (page.parent / link).is_file(), link
