"""Reports: honest tables, images on one scale, one page that needs nothing else."""

import base64
import csv
import hashlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from adaptmr.errors import BadInputError, UsageError
from adaptmr.reconstruction.metrics import Crop, Metrics, ProtocolName
from adaptmr.sampling.mask import Mask, centred_block
from adaptmr.workflows.report import (
    Column,
    Gallery,
    GalleryRow,
    Measured,
    MethodResult,
    Picture,
    Report,
    Row,
    Section,
    Table,
    Text,
    comparison,
    data_section,
    facts,
    mask_gallery,
    metric_table,
    render_report,
    write_report,
)
from adaptmr.workflows.report.document import Block
from adaptmr.workflows.report.figures import NOT_FINITE, scale_strip

FASTMRI = ProtocolName.FASTMRI_VOLUME
EVIL = """<script>alert("1")</script>'"><img src=x onerror=alert(2)>&amp;"""


def pixels(png: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def measured(ssim: float, psnr: float | None = 30.127, nmse: float = 0.0123) -> Metrics:
    return Metrics(
        nmse=nmse, psnr=psnr, ssim=ssim, crop=Crop.SQUARE, size=(24, 24), slices=5, share=1.0
    )


def lines(size: int = 24, low: int = 4, every: int = 4) -> Mask:
    positions = np.zeros(size, dtype=bool)
    positions[::every] = True
    positions[centred_block(size, low)] = True
    return Mask(positions, (low,), None, 4.0, {"generator": "equispaced", "seed": 7})


class Page(HTMLParser):
    """Start tags with their attributes, the visible text, and a check that tags are closed."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def report_of(*blocks: Block) -> Report:
    return Report("title", "verdict", (Section("section", blocks),))


def full_report() -> Report:
    targets = torch.rand(5, 30, 24, generator=generator())
    images = {"zero-filled": targets + 0.1, "VarNet": targets * 1.01}
    metrics = {"zero-filled": measured(0.5), "VarNet": measured(0.9)}
    kspace = torch.randn(3, 30, 24, dtype=torch.complex64, generator=generator())
    return Report(
        "Reconstruction",
        "VarNet is best.",
        (
            Section("Notes", (Text("", ("one", "two")),)),
            comparison(
                "scan.h5",
                targets,
                images,
                lines(),
                protocol=FASTMRI,
                metrics=metrics,
                kspace=kspace,
            ),
            data_section([("scan.h5", "5 slices")], [("bad.h5", "truncated")]),
            facts("Environment", {"torch": "2"}),
        ),
    )


# Tables


def table(*rows: tuple[str, float | None, float | Measured], group: str = "") -> Table:
    return metric_table(
        "Metrics",
        [MethodResult(name, 4.0, {"ssim": ssim, "nmse": nmse}, group) for name, ssim, nmse in rows],
        protocol=FASTMRI,
        n=12,
    )


def emphasised(block: Table) -> list[str]:
    return re.findall("<strong>(.*?)</strong>", render_report(report_of(block)))


def test_best_is_emphasised_in_the_direction_of_the_metric() -> None:
    assert emphasised(table(("a", 0.9, 0.03), ("b", 0.8, 0.02))) == ["0.9000", "0.0200"]


def test_an_infinite_psnr_is_best() -> None:
    results = [MethodResult("a", 4, {"psnr": 30.0}), MethodResult("b", 4, {"psnr": float("inf")})]
    assert emphasised(metric_table("", results, protocol=FASTMRI, n=1)) == ["∞"]


def test_ties_are_all_emphasised_unless_everything_is_equal() -> None:
    assert emphasised(table(("a", 0.9, 0.1), ("b", 0.9, 0.1), ("c", 0.1, 0.1))) == ["0.9000"] * 2
    assert emphasised(table(("a", 0.9, 0.1))) == []


def test_what_is_missing_or_not_a_number_is_shown_and_never_best() -> None:
    block = table(("a", None, float("nan")), ("b", 0.8, 0.2), ("c", 0.7, float("inf")))
    page = Page(render_report(report_of(block)))
    assert emphasised(block) == ["0.8000", "0.2000"]
    for shown in ("not a number", "∞", "–"):
        assert shown in page.text


def test_each_group_has_its_own_best() -> None:
    first, second = (
        table(("a", 0.9, 1), ("b", 0.8, 1), group="4×"),
        table(("a", 0.6, 1), group="8×"),
    )
    both = Table("", first.columns, (*first.rows, *second.rows, Row(("b", 8.0, 0.7, 1), "8×")))
    assert emphasised(both) == ["0.9000", "0.7000"]
    page = Page(render_report(report_of(both)))
    assert [a["scope"] for a in page.all("th") if a.get("class") == "group"] == ["rowgroup"] * 2


def test_numbers_carry_protocol_n_unit_interval_and_acceleration() -> None:
    block = metric_table(
        "Metrics",
        [MethodResult("VarNet", 3.97, {"psnr": Measured(34.567, 33.1, 35.25)})],
        protocol=FASTMRI,
        n=1,
        note="Brackets: 95 % bootstrap interval.",
    )
    text = Page(render_report(report_of(block))).text
    for part in ("PSNR (dB)", "34.57 [33.10, 35.25]", "3.97", "fastmri-volume", "n = 1 volume."):
        assert part in text
    assert "Brackets: 95 % bootstrap interval." in text


def test_csv_is_on_the_page_with_all_digits() -> None:
    value = 0.1 + 0.2
    block = table((EVIL, value, Measured(0.02, 0.01, 0.03)), ("b, c", None, 0.5), group="4×")
    page = render_report(report_of(block))
    match = re.search("<pre>(.*?)</pre>", page, re.DOTALL)
    assert match is not None
    parser = Page(match.group(0))
    rows = list(csv.reader(io.StringIO(parser.text)))
    assert rows[0][3:] == ["SSIM", "NMSE", "NMSE low", "NMSE high"]
    assert rows[1] == ["4×", EVIL, "4.0", repr(value), "0.02", "0.01", "0.03"]
    assert rows[2] == ["4×", "b, c", "4.0", "", "0.5", "", ""]


def test_parts_that_do_not_fit_together_are_refused() -> None:
    png = scale_strip("grey")
    with pytest.raises(UsageError, match=r"row of the table .*got 2 cells; expected 1"):
        Table("t", (Column("a"),), (Row(("1", "2")),))
    with pytest.raises(UsageError, match=r"row of the gallery .*got 2 pictures; expected 1"):
        Gallery("g", ("a",), (GalleryRow("r", (Picture(png, ""), None)),))
    with pytest.raises(UsageError, match="not a PNG"):
        Picture(b"GIF89a", "an image")


# Comparison


def galleries(section: Section) -> list[Gallery]:
    return [block for block in section.blocks if isinstance(block, Gallery)]


def drawn(row: GalleryRow) -> list[NDArray[np.uint8]]:
    return [pixels(picture.png) for picture in row.pictures if picture is not None]


def test_comparison_shows_everything_on_one_scale() -> None:
    targets = torch.rand(8, 16, 12, generator=generator()) + 1.0
    targets[0, 0, 0] = 2.0
    images = {
        "all a little": targets + 0.02,
        "one pixel": torch.where(torch.arange(12) == 3, targets + 0.02, targets),
        "far off": targets + 0.7,
    }
    section = comparison("s.h5", targets, images, lines(12), slices=[2, 5])
    gallery = galleries(section)[0]
    assert gallery.columns == ("Target", "all a little", "one pixel", "far off")
    assert [row.label for row in gallery.rows] == ["slice 2", "error × 50", "slice 5", "error × 50"]
    for errors in (gallery.rows[1], gallery.rows[3]):
        little, one, far = drawn(errors)
        assert errors.pictures[0] is None
        assert np.abs(little[:, 3].astype(int) - one[:, 3]).max() == 0
        assert (one[:, 4] < 10).all()
        assert (far == pixels(scale_strip("magma"))[0, -1]).all()
    window = float(gallery.legend[0].high)
    assert window == pytest.approx(2.0, abs=0.02)
    assert float(gallery.legend[1].high) == pytest.approx(window / 50, rel=0.01)
    target, little, *_ = drawn(gallery.rows[0])
    assert np.abs(target[..., 0] - 255 * targets[2].numpy() / window).max() < 3
    assert (little[..., 0] >= target[..., 0]).all()


def test_comparison_writes_the_metrics_under_the_images_and_names_the_protocol() -> None:
    targets = torch.rand(1, 8, 8, generator=generator())
    mask_used = lines(8, 2)
    section = comparison(
        "s.h5",
        targets,
        {"wavelet": targets * 2},
        mask_used,
        protocol=FASTMRI,
        metrics={"wavelet": measured(0.91234)},
    )
    gallery, mask = galleries(section)
    metrics = next(block for block in section.blocks if isinstance(block, Table))
    picture = gallery.rows[0].pictures[1]
    assert picture is not None
    assert picture.lines == ("SSIM 0.9123", "PSNR 30.13 dB", "NMSE 0.0123")
    assert "fastmri-volume" in gallery.note
    assert metrics.protocol == "fastmri-volume"
    assert metrics.n == 1
    assert metrics.rows[0].cells == ("wavelet", mask_used.acceleration, 0.91234, 30.127, 0.0123)
    assert "fastMRI's evaluation: central square" in metrics.note
    assert "central 24 × 24 pixels" in metrics.note
    shown = mask.rows[0].pictures[0]
    assert shown is not None
    assert shown.lines[:2] == (
        "acceleration 2.67 measured (asked: 4)",
        "3 of 8 lines, low-frequency block 2",
    )


def test_numbers_of_the_volume_are_written_once_not_under_each_slice() -> None:
    targets = 2345 * torch.rand(9, 8, 8, generator=generator())
    section = comparison(
        "s.h5",
        targets,
        {"a": targets},
        lines(8, 2),
        metrics={"a": measured(1.0, psnr=None)},
        protocol=FASTMRI,
    )
    gallery = galleries(section)[0]
    assert [row.label for row in gallery.rows][::2] == ["slice 2", "slice 4", "slice 6"]
    assert [row.pictures[1].lines for row in gallery.rows[::2] if row.pictures[1]] == [
        ("SSIM 1.0000", "PSNR ∞ dB", "NMSE 0.0123"),
        (),
        (),
    ]
    assert re.fullmatch(r"2,3\d\d", gallery.legend[0].high)


def test_comparison_without_a_target_has_no_error_maps() -> None:
    images = {"wavelet": torch.rand(2, 8, 8, generator=generator())}
    gallery, _ = galleries(comparison("s.h5", None, images, lines(8, 2)))
    assert gallery.columns == ("wavelet",)
    assert [row.label for row in gallery.rows] == ["slice 1"]


def test_comparison_counts_what_is_not_finite_and_still_draws() -> None:
    targets = torch.rand(1, 8, 8, generator=generator())
    images = {"bad": torch.full_like(targets, torch.nan), "good": targets}
    gallery = galleries(comparison("s.h5", targets, images, lines(8, 2)))[0]
    assert any(scale.label == "not finite (64 pixels)" for scale in gallery.legend)
    assert (drawn(gallery.rows[0])[1] == NOT_FINITE).all()


@pytest.mark.parametrize(
    ("targets", "images", "message"),
    [
        (torch.ones(2, 8, 8), {"a": torch.ones(2, 8, 6)}, r"s.h5.* 'a' .*\(2, 8, 6\).*\(2, 8, 8\)"),
        (None, {"a": torch.ones(8, 8)}, r"expected \(slices, rows, columns\)"),
        (None, {}, "no image to compare"),
    ],
)
def test_comparison_refuses_images_that_do_not_fit(
    targets: torch.Tensor | None, images: dict[str, torch.Tensor], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        comparison("s.h5", targets, images, lines(8, 2))


def test_metrics_without_their_protocol_are_refused() -> None:
    images = {"a": torch.ones(1, 8, 8)}
    with pytest.raises(UsageError, match="without the name of their protocol"):
        comparison("s.h5", None, images, lines(8, 2), metrics={"a": measured(0.5)})


def test_padding_is_in_the_legend_where_there_is_some() -> None:
    encoded = np.arange(10) < 8
    padded = Mask(encoded & (np.arange(10) % 2 == 0), (0,), encoded)
    assert "padding" in mask_gallery("", {"m": padded}, 4).legend[-1].label
    assert "padding" not in mask_gallery("", {"m": lines()}, 4).legend[-1].label


# The page


@pytest.mark.parametrize(
    "make",
    [
        lambda: Report(EVIL, EVIL, (Section(EVIL, (Text(EVIL, (EVIL,)),)),) * 2),
        lambda: report_of(table((EVIL, 1.0, 2.0), group=EVIL)),
        lambda: Report("t", "v", (data_section([(EVIL, EVIL)], [(EVIL, EVIL)]),)),
        lambda: Report("t", "v", (facts(EVIL, {EVIL: EVIL}),)),
        lambda: Report(
            "t",
            "v",
            (comparison(EVIL, None, {EVIL: torch.ones(1, 4, 4)}, lines(4, 2)),),
        ),
    ],
)
def test_hostile_names_are_shown_as_text(make: Callable[[], Report]) -> None:
    html = render_report(make())
    page = Page(html)
    assert page.all("script") == []
    assert all("onerror" not in attributes for attributes in page.all("img"))
    assert any(
        EVIL in text
        for text in (page.text, *(value or "" for _, a in page.tags for value in a.values()))
    )


def test_page_needs_nothing_else_and_describes_every_image() -> None:
    html = render_report(full_report())
    page = Page(html)
    assert not re.search(r"https?:|@import|url\(|<script|<iframe", html)
    sources = [str(attributes["src"]) for attributes in page.all("img")]
    assert len(sources) > 10
    for source in sources:
        head, data = source.split(",", 1)
        assert head == "data:image/png;base64"
        assert pixels(base64.b64decode(data, validate=True)).size > 0
    assert all(attributes["alt"] for attributes in page.all("img") if "tabindex" in attributes)
    anchors = [str(attributes["href"]) for attributes in page.all("a")]
    assert anchors == [f"#{attributes['id']}" for attributes in page.all("section")]


def test_security_policy_allows_the_style_sheet_of_the_page_and_no_script() -> None:
    html = render_report(full_report())
    style = re.search("<style>(.*?)</style>", html, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style.group(1).encode()).digest()).decode()
    policy = next(m["content"] for m in Page(html).all("meta") if "http-equiv" in m)
    assert policy is not None
    assert f"style-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "style" not in {name for _, attributes in Page(html).tags for name in attributes}


def test_verdict_comes_first() -> None:
    text = Page(render_report(full_report())).text
    assert text.index("VarNet is best.") < text.index("Notes") < text.index("Environment")


def test_equal_reports_give_equal_files(tmp_path: Path) -> None:
    write_report(full_report(), tmp_path / "a.html")
    write_report(full_report(), tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_existing_file_is_replaced_only_when_allowed(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(BadInputError, match=r"report\.html: the output exists already"):
        write_report(report_of(Text("", ("new",))), path)
    assert path.read_text() == "old"
    write_report(report_of(Text("", ("new",))), path, overwrite=True)
    assert "new" in path.read_text()
    assert os.listdir(tmp_path) == ["report.html"]  # noqa: PTH208 - nothing partial beside it


def test_names_that_are_not_text_do_not_stop_the_report(tmp_path: Path) -> None:
    name = os.fsdecode(b"scan\xff.h5")
    write_report(report_of(Text("", (name, "Größe µ ×"))), tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "scan?.h5" in text
    assert "Größe µ ×" in text


def test_importing_reports_leaves_matplotlib_alone() -> None:
    code = "import sys, adaptmr.workflows.report; print('matplotlib' in sys.modules)"
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert finished.stdout.strip() == "False"
