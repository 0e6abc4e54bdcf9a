"""The report page: one file, nothing from outside, nothing unescaped, shapes where the tissue is."""

import base64
import io
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hwsi.inference.answer import Evidence
from hwsi.inference.html import Entry, build_page, render, write_html
from hwsi.inference.pictures import evidence_picture, overview, scale_bar
from hwsi.inference.report import citations, sentences
from hwsi.inference.words import confidence_words, reliance_words


class FakeSlide(SimpleNamespace):
    """As much of a slide as pictures need: its pixel (x, y) has red x / 8 and green y / 8."""

    width0, height0, mpp, mpp_source, vendor = 1400, 900, 0.5, "user", "fake"

    def pixels(self, x, y, w, h, mpp):
        f = mpp / self.mpp
        xx, yy = np.meshgrid(x + (np.arange(w) + 0.5) * f, y + (np.arange(h) + 0.5) * f)
        inside = (xx >= 0) & (yy >= 0) & (xx < self.width0) & (yy < self.height0)
        rgb = np.stack([xx / 8, yy / 8, np.full_like(xx, 90)], -1)
        return np.where(inside[..., None], rgb, 255).astype(np.uint8)

    def thumbnail(self, mpp):
        f = self.mpp / mpp
        return self.pixels(0, 0, round(self.width0 * f), round(self.height0 * f), mpp)

    def read(self, x0, y0, size_px, mpp):
        return self.pixels(x0, y0, size_px, size_px, mpp)


@pytest.fixture(scope="module")
def slide():
    return FakeSlide(name="<b>evil</b> & slide")


@pytest.fixture(scope="module")
def answered(session):
    return session.ask("Is <b>necrosis</b> present?", ["yes", "no"])


@pytest.fixture(scope="module")
def page(session, slide, answered):
    session.slide = slide
    entries = [Entry(answered, "patch", "yes", answered.text == "yes"), Entry(answered)]
    yield render(build_page(session, entries, session.report()))
    session.slide = None


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "path", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag != "path":
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def tags(page):
    reader = _Reader()
    reader.feed(page)
    assert reader.open == []
    return reader.tags


def test_nothing_is_fetched_from_outside(page, tags):
    for tag, attrs in tags:
        assert tag not in ("script", "iframe", "object", "base", "form")
        for name in ("src", "href"):
            assert (attrs.get(name) or "data:").startswith("data:")
    assert "url(" not in page
    assert "@import" not in page


def test_text_is_escaped(page):
    assert "<b>evil" not in page
    assert "<b>necrosis" not in page
    assert "&lt;b&gt;necrosis&lt;/b&gt;" in page


def test_every_picture_has_words_and_pixels(tags):
    images = [a for t, a in tags if t == "img"]
    assert images
    for image in images:
        assert image["alt"]
        data = base64.b64decode(image["src"].partition("base64,")[2])
        with Image.open(io.BytesIO(data)) as opened:
            assert opened.size == (int(image["width"]), int(image["height"]))


def test_the_page_says_what_it_must(page, session):
    assert "not a diagnosis" in page
    assert session.warnings[0].replace("'", "&#39;") in page
    assert session.provenance.slide_id in page
    assert len(page) < 4_000_000


def test_the_page_is_written_whole(session, slide, answered, tmp_path):
    session.slide = slide
    path = write_html(tmp_path / "deep" / "r.html", session, [Entry(answered)])
    session.slide = None
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert [p.name for p in path.parent.iterdir()] == ["r.html"]


def test_a_crop_shows_the_box(slide):
    e = Evidence("patch", "R1.P1", (256, 128, 384, 256), 1.0, "x")
    p = evidence_picture(slide, e)
    side0 = 128 * 1.24
    left = 320 - side0 / 2
    data = base64.b64decode(p.uri.partition("base64,")[2])
    rgb = np.asarray(Image.open(io.BytesIO(data)), float)
    # red tells where in the slide a pixel is
    assert rgb[p.height // 2, p.width // 2, 0] == pytest.approx(320 / 8, abs=3)
    numbers = [float(v) for v in re.findall(r"-?[\d.]+", p.shapes[-1].path)]
    scale = p.width / side0
    assert numbers[0] == pytest.approx((256 - left) * scale, abs=0.2)
    assert numbers[2] == pytest.approx((384 - left) * scale, abs=0.2)
    # the bar is as long as it says
    assert p.bar_fraction * side0 * slide.mpp == pytest.approx(p.bar_um)


def test_cells_are_outlined_in_the_crop(slide):
    ring = ((300.0, 180.0), (310.0, 180.0), (310.0, 190.0))
    p = evidence_picture(slide, Evidence("cell", "R1.P1", (256, 128, 384, 256), 1.0, "x", contours=(ring,)))
    cell = next(s for s in p.shapes if s.kind == "cell")
    x, y = (float(v) for v in re.findall(r"[\d.]+", cell.path)[:2])
    scale = p.width / (128 * 1.24)
    assert (x, y) == pytest.approx(((300 - 320 + 79.36) * scale, (180 - 192 + 79.36) * scale), abs=0.2)


def test_the_overview_has_all_regions(slide, features):
    p = overview(slide, features.hierarchy, tissue=features.tissue, kept=[0, 3])
    kinds = [s.kind for s in p.shapes]
    assert kinds.count("region") == len(features.hierarchy.regions)
    assert kinds.count("patch") == 2
    assert kinds.count("tissue") == 1
    assert {x.text for x in p.labels} == {f"R{i + 1}" for i in range(6)}
    for label in p.labels:
        assert 0 <= label.left < 1
        assert 0 <= label.top < 1


@given(st.floats(10, 1e5))
def test_a_scale_bar_fits(width_um):
    bar, fraction = scale_bar(width_um)
    assert 0 < fraction <= 1
    assert bar / width_um == pytest.approx(fraction, rel=1e-6) or fraction == 1


def test_sentences_and_citations():
    text = "R3 shows tumour (R3.P7). In R99 there is none. R3 again"
    assert [text[a:b] for a, b in sentences(text)] == ["R3 shows tumour (R3.P7).", "In R99 there is none.", "R3 again"]
    assert citations(text, {"R3", "R3.P7"}) == (("R3", "R3.P7"), ("R99",))
    assert sentences("") == sentences(" \n ") == []


@given(st.text(max_size=200))
def test_sentences_cover_the_words(text):
    spans = sentences(text)
    assert "".join("".join(text[a:b].split()) for a, b in spans) == "".join(text.split())


def test_numbers_in_words():
    assert reliance_words(0.0).startswith("none")
    assert "2.7 times" in reliance_words(1.0)
    assert reliance_words(-1.0).startswith("against")
    assert reliance_words(500.0).startswith("strong")
    assert confidence_words(0.5, 3) == "50 % of the belief goes to this option out of 3"


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("ink", "paper"),
    [("ink", "paper"), ("ink", "card"), ("quiet", "paper"), ("quiet", "card"), ("accent", "paper"),
     ("accent", "accent-soft"), ("good", "good-soft"), ("bad", "bad-soft"), ("warn", "warn-soft")],
)  # fmt: skip
def test_words_can_be_read(page, scheme, ink, paper):
    """WCAG AA: 4.5 to 1, in light and in dark."""
    found = [{}, {}]
    for i, block in enumerate(re.findall(r":root \{(.*?)\}", page, re.DOTALL)):
        found[i] = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block))
    colours = found[0] | found[scheme]
    high, low = sorted((_luminance(colours[ink]), _luminance(colours[paper])), reverse=True)
    assert (high + 0.05) / (low + 0.05) >= 4.5
