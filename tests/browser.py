"""Pages opened from a file in a real browser without any network."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PROBE = """<script>
const pre = document.createElement('pre');
pre.id = 'probe';
const images = [...document.images];
const scrolls = box => box !== null && getComputedStyle(box).overflowX === 'auto';
const outside = width => {
  document.body.style.width = `${width}px`;
  document.body.style.margin = '0';
  return [...document.querySelectorAll('body *')]
    .filter(element => !scrolls(element.parentElement.closest('.wide, pre')))
    .filter(element => element.getBoundingClientRect().right > width + 1)
    .map(element => element.outerHTML.slice(0, 80));
};
pre.textContent = JSON.stringify({
  images: images.length,
  broken: images.filter(image => !(image.complete && image.naturalWidth > 0)).length,
  tables: document.querySelectorAll('table.data').length,
  bold: [...document.querySelectorAll('strong')].map(element => element.textContent),
  border: getComputedStyle(document.querySelector('.verdict')).borderLeftWidth,
  page: getComputedStyle(document.documentElement).backgroundColor,
  ink: getComputedStyle(document.body).color,
  outside: outside(Number(location.hash.slice(1)) || innerWidth),
  loaded: performance.getEntriesByType('resource').length,
});
document.body.append(pre);
</script></body>"""


def browse(address: str, scratch: Path, *options: str) -> str:
    """Open a page in a fresh headless browser and return what it prints."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (chromium, chromium-browser)")
    finished = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            f"--user-data-dir={scratch / 'profile'}",
            *options,
            address,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return finished.stdout


def probe(page: Path, scratch: Path, *options: str, width: int | None = None) -> dict[str, object]:
    """What the browser makes of a copy of the page that may run one script.

    The body is laid out ``width`` pixels wide, which may be less than the smallest window.
    """
    text = page.read_text(encoding="utf-8")
    text = text.replace("default-src 'none';", "default-src 'none'; script-src 'unsafe-inline';")
    copy = scratch / "probed.html"
    copy.write_text(text.replace("</body>", PROBE), encoding="utf-8")
    dom = browse(f"{copy.as_uri()}#{width or 0}", scratch, *options, "--dump-dom")
    found = re.search('<pre id="probe">(.*?)</pre>', dom)
    assert found is not None
    answer: dict[str, object] = json.loads(html.unescape(found.group(1)))
    return answer
