"""GeoJSON as QuPath's reader wants it: rules of section 10 of the notes on formats, checked one by one."""

import gzip
import json
import uuid
from dataclasses import replace

import numpy as np
import pytest
from features_made_up import make_features
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import shape

from hwsi.features.geojson import evidence_geojson, write_evidence, write_geojson
from hwsi.hierarchy import CELL_TYPES, Cells
from hwsi.inference.answer import Answer, Evidence, Provenance


def check_for_qupath(collection, width0, height0):
    """What QuPath's reader needs, else it drops, mistakes or refuses an object."""
    assert collection["type"] == "FeatureCollection"
    ids = set()
    for feature in collection["features"]:
        assert feature["type"] == "Feature"
        assert "objectType" not in feature
        ids.add(str(uuid.UUID(feature["id"])))
        properties = feature["properties"]
        assert properties["objectType"] in ("annotation", "detection", "cell")
        assert isinstance(properties["classification"]["name"], str)
        colour = properties["classification"]["color"]
        assert len(colour) == 3
        assert all(isinstance(c, int) and 0 <= c <= 255 for c in colour)
        assert isinstance(properties.get("measurements", {}), dict)
        geometry = feature["geometry"]
        polygons = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
        assert geometry["type"] in ("Polygon", "MultiPolygon")
        for ring in (ring for polygon in polygons for ring in polygon):
            assert len(ring) >= 4
            assert ring[0] == ring[-1]
            assert (np.array(ring) >= -20).all()
            assert (np.array(ring) <= (width0 + 20, height0 + 20)).all()
        assert shape(geometry).is_valid
        assert shape(geometry).area > 0
    assert len(ids) == len(collection["features"])


def test_all_layers_are_valid(tmp_path):
    features = make_features(cells=200)
    path = tmp_path / "all.geojson"
    count = write_geojson(path, features, ("tissue", "regions", "patches", "cells"))
    collection = json.loads(path.read_text())
    check_for_qupath(collection, 3000, 2100)
    tree = features.hierarchy
    kept = int((~tree.patches.background).sum())
    assert count == len(collection["features"]) == 2 + len(tree.regions) + kept + 200
    tissue = collection["features"][0]
    assert len(tissue["geometry"]["coordinates"]) == 2  # outline and hole
    region = collection["features"][3]
    assert region["properties"]["name"] == "R2"
    assert region["geometry"]["coordinates"][0][2] == [3000, 2048]  # cut at the slide's border
    cell = collection["features"][-1]
    assert cell["properties"]["objectType"] == "cell"
    assert cell["properties"]["classification"]["name"] == CELL_TYPES[tree.cells.type[-1]].capitalize()
    area = cell["properties"]["measurements"]["Nucleus: Area µm^2"]
    assert area == pytest.approx(shape(cell["geometry"]).area * 0.25, rel=1e-3)
    assert cell["geometry"]["coordinates"][0][0] == pytest.approx(tree.cells.contour(199)[0], abs=0.01)


def test_a_cell_of_unknown_kind_has_no_class(tmp_path):
    features = make_features(cells=3)
    tree = features.hierarchy
    cells = replace(tree.cells, type_prob=np.float32([0.5, 0.0, 0.5]))
    features = replace(features, hierarchy=tree.with_cells(cells))
    write_geojson(tmp_path / "cells.geojson", features)
    found = [f["properties"] for f in json.loads((tmp_path / "cells.geojson").read_text())["features"]]
    assert ["classification" in properties for properties in found] == [True, False, True]
    assert "Probability" not in found[1]["measurements"]


def test_compressed_and_plain_hold_the_same_and_are_stable(tmp_path):
    features = make_features()
    for name in ("a.geojson", "a.geojson.gz", "b.geojson.gz"):
        write_geojson(tmp_path / name, features)
    assert gzip.decompress((tmp_path / "a.geojson.gz").read_bytes()) == (tmp_path / "a.geojson").read_bytes()
    assert (tmp_path / "a.geojson.gz").read_bytes() == (tmp_path / "b.geojson.gz").read_bytes()


def test_no_features_are_an_empty_collection(tmp_path):
    assert write_geojson(tmp_path / "a.geojson", make_features(cells=0)) == 0
    assert json.loads((tmp_path / "a.geojson").read_text())["features"] == []


def test_unknown_layers_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no layer"):
        write_geojson(tmp_path / "a.geojson", make_features(cells=1), ("nuclei",))  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


points = st.lists(st.tuples(st.floats(0, 40), st.floats(0, 40)), min_size=3, max_size=14)


@settings(max_examples=150, deadline=None)
@given(st.lists(points, min_size=1, max_size=4))
def test_any_contour_becomes_valid_or_is_left_out(tmp_path_factory, contours):
    """Contours that cross themselves, lie on a line, or shrink to a point."""
    path = tmp_path_factory.mktemp("geojson") / "a.geojson"
    features = make_features(cells=len(contours))
    cells = features.hierarchy.cells
    odd = Cells(
        xy=cells.xy, patch=cells.patch, type=cells.type, type_prob=cells.type_prob,
        contour_ptr=np.cumsum([0, *(len(c) for c in contours)]).astype(np.int64),
        contour_xy=np.concatenate([np.array(c) for c in contours]).astype(np.float32),
    )  # fmt: skip
    count = write_geojson(path, replace(features, hierarchy=features.hierarchy.with_cells(odd)))
    collection = json.loads(path.read_text())
    assert len(collection["features"]) == count <= len(contours)
    check_for_qupath(collection, 3000, 2100)


def make_answer() -> Answer:
    contours = (((10.0, 10.0), (20.0, 10.0), (20.0, 20.0)), ((30.0, 30.0), (40.0, 30.0), (30.0, 40.0)))
    return Answer(
        question="Is there a mitosis?", text="Yes.",
        evidence=(
            Evidence("region", "R1", (0, 0, 2048, 2048), 0.5, "Yes"),
            Evidence("patch", "R1.P7", (256, 0, 512, 256), 0.25, "Yes"),
            Evidence("cell", "R1.P7", (256, 0, 512, 256), float("nan"), "Yes", contours),
        ),
        visual_reliance=0.1, confidence=0.9,
        provenance=Provenance("nano", "ab", "nano", "a.svs", "00ff", "a.h5", 0, "0.1.0"),
    )  # fmt: skip


def test_evidence_of_an_answer(tmp_path):
    answer = make_answer()
    made = evidence_geojson(answer)
    check_for_qupath(made, 3000, 2100)
    assert made == evidence_geojson(answer.to_dict() | {"evidence": made_evidence(answer)})
    kinds = [feature["properties"]["objectType"] for feature in made["features"]]
    assert kinds == ["annotation", "annotation", "detection"]
    first, _, cells = made["features"]
    assert first["properties"]["measurements"] == {"Score": 0.5, "Rank": 1}
    assert first["properties"]["metadata"]["supports"] == "Yes"
    assert first["properties"]["name"] == "R1"
    assert cells["geometry"]["type"] == "MultiPolygon"
    assert cells["properties"]["measurements"]["Score"] == "nan"  # what is not finite goes as text
    assert write_evidence(tmp_path / "e.geojson", answer) == 3
    assert json.loads((tmp_path / "e.geojson").read_text()) == json.loads(json.dumps(made))


def made_evidence(answer):
    """As read back from JSON: lists, not tuples."""
    return json.loads(json.dumps(answer.to_dict()["evidence"]))
