"""A report of real scans, opened from a file in a real browser without any network."""

import html
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from browser import browse, probe
from PIL import Image

from adaptmr.kernels.fourier import inverse_fourier
from adaptmr.reconstruction.metrics import PROTOCOLS, ProtocolName
from adaptmr.sampling.mask import Mask, centred_block
from adaptmr.workflows.report import (
    Gallery,
    GalleryRow,
    Measured,
    MethodResult,
    Picture,
    Report,
    Section,
    comparison,
    data_section,
    facts,
    interval_chart,
    metric_table,
    write_report,
)

pytestmark = pytest.mark.slow

FASTMRI = ProtocolName.FASTMRI_VOLUME
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>.h5"


def random_lines(size: int, acceleration: int, low: int, seed: int) -> Mask:
    positions = np.zeros(size, dtype=bool)
    positions[centred_block(size, low)] = True
    rest = np.flatnonzero(~positions)
    more = size // acceleration - low
    positions[np.random.default_rng(seed).choice(rest, more, replace=False)] = True
    provenance = {"generator": "random", "seed": seed}
    return Mask(positions, (low,), None, float(acceleration), provenance)


@pytest.fixture(scope="module")
def page(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    sections = []
    for name, acceleration in (("brain_8ch.h5", 4), ("brain_t2_1ch.h5", 8)):
        with h5py.File(shared_data / "kspace" / name) as file:
            kspace = torch.from_numpy(file["kspace"][:])
            target = torch.from_numpy(file["reconstruction_rss"][:])
        mask = random_lines(kspace.shape[-1], acceleration, 14, seed=17)
        zero_filled = inverse_fourier(mask.apply(kspace)).abs().square().sum(1).sqrt()
        halfway = (zero_filled + target) / 2
        images = {"zero-filled": zero_filled, "halfway": halfway}
        metrics = {method: PROTOCOLS[FASTMRI](image, target) for method, image in images.items()}
        sections.append(
            comparison(
                name,
                target,
                images,
                mask,
                protocol=FASTMRI,
                metrics=metrics,
                kspace=kspace[0],
            )
        )
    interval = Measured(0.85, 0.82, 0.88)
    summary = metric_table(
        "",
        [
            MethodResult("zero-filled", 4.0, {"ssim": Measured(0.7, 0.66, 0.73)}, "4×"),
            MethodResult("halfway", 4.0, {"ssim": interval}, "4×"),
        ],
        protocol=FASTMRI,
        n=2,
    )
    chart = Picture(
        interval_chart({"4×": {"halfway": interval}}, x_label="SSIM"), "SSIM 0.85", density=2
    )
    report = Report(
        "Two real scans",
        "Halfway to the target is better than zero-filled.",
        (
            Section("Metrics", (summary, Gallery("", ("",), (GalleryRow("", (chart,)),)))),
            *sections,
            data_section([("brain_8ch.h5", "1 slice")], [(HOSTILE, "not an HDF5 file")]),
            facts("Environment", {"sha256 of brain_8ch.h5": 64 * "0"}),
        ),
    )
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(report, path)
    return path


def test_page_works_from_a_file(page: Path, tmp_path: Path) -> None:
    seen = probe(page, tmp_path, "--window-size=1200,1600")
    assert seen["broken"] == 0
    # 1 chart; for each scan 2 scales, 3 images, 2 error maps, 4 legend entries, mask and k-space
    assert seen["images"] == 1 + 2 * (2 + 3 + 2 + 4 + 2)
    assert seen["tables"] == 1 + 2 + 2 + 1
    # the best SSIM of the summary; the best SSIM, PSNR and NMSE of each scan
    assert isinstance(seen["bold"], list)
    assert len(seen["bold"]) == 1 + 2 * 3
    assert seen["bold"][0] == "0.8500"
    assert seen["border"] == "5px"  # the style sheet passes the security policy
    assert seen["outside"] == []


def test_page_fits_a_narrow_screen(page: Path, tmp_path: Path) -> None:
    assert probe(page, tmp_path, "--window-size=500,800", width=340)["outside"] == []


def test_page_follows_a_dark_desktop(page: Path, tmp_path: Path) -> None:
    light = probe(page, tmp_path, "--blink-settings=preferredColorScheme=1")
    dark = probe(page, tmp_path, "--blink-settings=preferredColorScheme=0")
    assert light["page"] == "rgb(255, 255, 255)"
    assert dark["page"] == "rgb(20, 23, 26)"
    assert light["ink"] != dark["ink"]


def test_hostile_file_name_does_nothing(page: Path, tmp_path: Path) -> None:
    dom = browse(page.as_uri(), tmp_path, "--dump-dom")
    assert "<title>Two real scans</title>" in dom
    assert html.escape(HOSTILE, quote=False) in dom
    assert not re.search(r"https?://", page.read_text(encoding="utf-8"))


def test_screenshot_shows_the_scans(page: Path, tmp_path: Path) -> None:
    picture = tmp_path / "page.png"
    browse(page.as_uri(), tmp_path, f"--screenshot={picture}", "--window-size=1200,1600")
    with Image.open(picture) as image:
        shown = np.asarray(image.convert("RGB")).astype(int)
    assert shown.shape == (1600, 1200, 3)
    assert (shown[:20] == 255).all()  # white margin
    grey = np.ptp(shown, axis=-1) == 0
    # Images and error maps cover a good part of the page: neither blank nor text alone.
    assert (grey & (shown[..., 0] < 200)).mean() > 0.06
    assert (~grey).mean() > 0.03
