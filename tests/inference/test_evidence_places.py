"""Evidence on a real slide: on tissue, and as QuPath reads it. What the words say does not matter here."""

import json
import uuid
from pathlib import Path

import cv2
import numpy as np
import pytest
import shapely
from shapely.geometry import shape

from hwsi.features.geojson import write_evidence
from hwsi.inference import study
from hwsi.inference.evidence.attribution import Mode

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
SLIDE = SHARED / "data" / "slides" / "CMU-1-Small-Region.svs"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not SLIDE.exists(), reason="the real slide is not here")]


@pytest.fixture(scope="module")
def answered():
    with study(SLIDE) as session:
        yield session, session.ask("Is there necrosis?", ["yes", "no"], evidence=Mode.VERIFY)


def test_nine_tenths_of_the_drawn_evidence_is_tissue(answered, tmp_path):
    """By the pixels, not by the finder that drew it: what is darker than glass once its pores are closed."""
    session, answer = answered
    assert answer.evidence
    write_evidence(tmp_path / "e.geojson", answer, session.features.tissue)
    drawn = shapely.union_all(
        [shape(f["geometry"]) for f in json.loads((tmp_path / "e.geojson").read_text())["features"]]
    )
    slide, mpp = session.need_slide(), 8.0
    image = slide.thumbnail(mpp)
    glass = np.percentile(image, 99, axis=(0, 1))
    dark = (image.astype(float) < glass - 12).any(-1).astype(np.uint8)
    tissue = cv2.morphologyEx(dark, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)) > 0
    rows, cols = np.mgrid[: image.shape[0], : image.shape[1]]
    scale = slide.width0 / image.shape[1]
    inside = shapely.contains_xy(drawn, (cols + 0.5) * scale, (rows + 0.5) * scale)
    assert inside.sum() > 100
    assert tissue[inside].mean() >= 0.9


def test_the_geojson_keeps_the_rules_of_its_reader(answered, tmp_path):
    session, answer = answered
    write_evidence(tmp_path / "e.geojson", answer, session.features.tissue)
    text = (tmp_path / "e.geojson").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    features = json.loads(text)["features"]
    assert len({str(uuid.UUID(f["id"])) for f in features}) == len(features) == len(answer.evidence)
    tree = session.features.hierarchy
    for f in features:
        properties = f["properties"]
        assert "objectType" not in f
        assert properties["objectType"] in ("annotation", "detection")
        assert set(properties["classification"]) == {"name", "color"}
        assert isinstance(properties["measurements"], dict)
        outline = shape(f["geometry"])
        assert outline.is_valid
        assert outline.area > 0
        x0, y0, x1, y1 = outline.bounds
        assert 0 <= x0 < x1 <= tree.width0
        assert 0 <= y0 < y1 <= tree.height0


def test_a_citation_is_a_level_0_box_of_the_tree(answered):
    session, answer = answered
    tree = session.features.hierarchy
    corners = {"region": tree.regions.xy, "patch": tree.patches.xy, "cell": tree.patches.xy}
    for e in answer.evidence:
        assert (corners[e.scale] == np.array(e.box[:2])).all(1).any()
        assert e.left_out_at == "lm_token"
        assert bool(e.contours) <= (e.scale == "cell")
