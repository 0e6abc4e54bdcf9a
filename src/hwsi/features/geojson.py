"""GeoJSON that QuPath (0.4 and later) opens: cells, patches, regions, tissue, and the evidence of an answer.

- Level-0 pixels, origin at the top left; rings are closed; polygons that touch themselves are mended first,
  since QuPath fails on them.
- ``objectType`` stands inside ``properties``, a class has a name and a colour, ids are UUIDs that follow from
  the slide and the object, measurements are an object: what QuPath's own reader asks for.
- Features are written one by one, so a million cells need no memory; cells are checked a block at a time, which is
  what makes it quick. A name that ends in ``.gz`` is compressed (with no time in it: equal content, equal bytes).
- A cell whose outline is not known is a point.
"""

import gzip
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from shapely import (
    MultiPolygon,
    Polygon,
    get_parts,
    is_valid,
    linearrings,
    make_valid,
    polygons,
    set_precision,
    union_all,
)
from shapely import area as shapely_area
from shapely.geometry.base import BaseGeometry

from hwsi.features.atomic import atomic_path
from hwsi.features.slide_features import SlideFeatures
from hwsi.hierarchy.labels import patch_label, region_label
from hwsi.hierarchy.tree import CELL_TYPES, Cells

Layer = Literal["tissue", "regions", "patches", "cells"]
Feature = dict[str, Any]
Rings = Sequence[Sequence[NDArray[np.float64]]]
"""Polygons, each its rings (v, 2) in level-0 pixels, the first one the outside."""
_BLOCK = 4096
_DIGITS = 2  # of a pixel's coordinate

CELL_COLOURS: dict[str, tuple[int, int, int]] = {
    "neoplastic": (215, 48, 39),
    "inflammatory": (26, 152, 80),
    "connective": (69, 117, 180),
    "dead": (254, 224, 80),
    "epithelial": (253, 141, 60),
}
_TISSUE = {"name": "Tissue", "color": [110, 110, 110]}
_REGION = {"name": "Region", "color": [0, 90, 160]}
_PATCH = {"name": "Patch", "color": [0, 150, 170]}
_EVIDENCE = {"name": "Evidence", "color": [190, 30, 120]}


def write_geojson(path: str | Path, features: SlideFeatures, layers: Iterable[Layer] = ("cells",)) -> int:
    """Write layers of a slide's tree as one FeatureCollection, wholly or not at all.

    Args:
        path: ``.geojson``, or ``.geojson.gz`` for many cells.
        features: of the slide.
        layers: any of tissue, regions, patches (those that are not background), cells.

    Returns:
        How many features were written.

    Raises:
        HwsiError: DISK_FULL, OUTPUT_UNWRITABLE.
    """
    makers = {"tissue": _tissue, "regions": _regions, "patches": _patches, "cells": _cells}
    asked = tuple(layers)
    unknown = set(asked) - set(get_args(Layer))
    if unknown:
        raise ValueError(f"no layer is called {', '.join(sorted(unknown))}")
    return _write(Path(path), (feature for layer in asked for feature in makers[layer](features)))


def write_evidence(path: str | Path, answer: Any, tissue: Rings = ()) -> int:
    """Write :func:`evidence_geojson` of an answer, wholly or not at all; gives the number of features."""
    return _write(Path(path), evidence_geojson(answer, tissue)["features"])


def evidence_geojson(answer: Any, tissue: Rings = ()) -> dict[str, Any]:
    """The evidence of an answer as a FeatureCollection: annotations, and cells as detections.

    Args:
        answer: an ``Answer`` or what its ``to_dict`` gives.
        tissue: outlines of the slide's tissue (``SlideFeatures.tissue``): a region or patch is then drawn as the tissue
            in its box. The glass beside it was never read.

    Returns:
        One feature for each piece of evidence: its contours, or else its box; named by its label, with the
        score as a measurement and the words that it supports, the question and the answer as metadata.
    """
    plain: Mapping[str, Any] = answer if isinstance(answer, Mapping) else answer.to_dict()
    provenance = plain.get("provenance") or {}
    slide_id = str(provenance.get("slide_id", "")) if isinstance(provenance, Mapping) else ""
    there = union_all([Polygon(rings[0], rings[1:]).buffer(0) for rings in tissue]) if tissue else None
    made = []
    for rank, piece in enumerate(plain["evidence"], start=1):
        contours = [np.asarray(contour, np.float64) for contour in piece["contours"]]
        outline = _geometry(contours) if contours else _box(piece["box"])
        if outline is None:
            outline = _box(piece["box"])
        if there is not None and not contours:
            outline = _areas(set_precision(outline.intersection(there), 10.0**-_DIGITS)) or outline
        made.append(
            _feature(
                _coordinates(outline),
                key=f"{slide_id}/evidence/{plain['question']}/{rank}",
                kind="detection" if piece["scale"] == "cell" else "annotation",
                classification=_EVIDENCE,
                name=str(piece["label"]),
                measurements={"Score": float(piece["score"]), "Rank": rank},
                metadata={
                    "scale": str(piece["scale"]),
                    "supports": str(piece["supports"]),
                    "question": str(plain["question"]),
                    "answer": str(plain["text"]),
                },
            )
        )
    return {"type": "FeatureCollection", "features": made}


def _tissue(f: SlideFeatures) -> Iterator[Feature]:
    for i, rings in enumerate(f.tissue):
        shape = _mended(Polygon(np.round(rings[0], _DIGITS), [np.round(hole, _DIGITS) for hole in rings[1:]]))
        if shape is not None:
            yield _feature(_coordinates(shape), key=f"{f.slide_id}/tissue/{i}", kind="annotation",
                           classification=_TISSUE, name=f"Tissue {i + 1}")  # fmt: skip


def _regions(f: SlideFeatures) -> Iterator[Feature]:
    h = f.hierarchy
    for i, (x, y) in enumerate(h.regions.xy.tolist()):
        box = _inside((x, y, x + h.regions.size0, y + h.regions.size0), h.width0, h.height0)
        measured = {
            "Tissue": float(h.regions.tissue[i]), "Focus": float(h.regions.focus[i]), "Pen": float(h.regions.pen[i]),
        }  # fmt: skip
        yield _feature(_coordinates(_box(box)), key=f"{f.slide_id}/region/{i}", kind="annotation",
                       classification=_REGION, name=region_label(i), measurements=measured)  # fmt: skip


def _patches(f: SlideFeatures) -> Iterator[Feature]:
    h = f.hierarchy
    columns = h.region_px // h.patch_px
    for i in np.flatnonzero(~h.patches.background).tolist():
        x, y = h.patches.xy[i].tolist()
        row, column = h.patches.row_col[i].tolist()
        box = _inside((x, y, x + h.patches.size0, y + h.patches.size0), h.width0, h.height0)
        name = patch_label(int(h.patches.region[i]), row, column, columns)
        yield _feature(_coordinates(_box(box)), key=f"{f.slide_id}/patch/{i}", kind="detection", classification=_PATCH,
                       name=name, measurements={"Tissue": float(h.patches.tissue[i])})  # fmt: skip


def _cells(f: SlideFeatures) -> Iterator[Feature]:
    cells = f.hierarchy.cells
    classes = [{"name": name.capitalize(), "color": list(CELL_COLOURS[name])} for name in CELL_TYPES]
    um2 = f.hierarchy.mpp**2
    for m, (geometry, area) in enumerate(_outlines(cells)):
        if geometry is None:
            continue
        probability = float(cells.type_prob[m])
        # an encoder that finds cells without telling their kind gives a probability of zero
        kind = classes[int(cells.type[m])] if probability else None
        measured = {"Nucleus: Area µm^2": area * um2} if area else {}
        yield _feature(
            geometry, key=f"{f.slide_id}/cell/{m}", kind="cell" if area else "detection", classification=kind,
            measurements={**measured, **({"Probability": probability} if kind else {})},
        )  # fmt: skip


def _outlines(cells: Cells) -> Iterator[tuple[dict[str, Any] | None, float]]:
    """Geometry and area (px^2) of each cell; a point without an area where no outline is known, None for a bad one."""
    for start in range(0, len(cells), _BLOCK):
        ptr = cells.contour_ptr[start : start + _BLOCK + 1]
        points = np.round(cells.contour_xy[ptr[0] : ptr[-1]].astype(np.float64), _DIGITS)
        lengths, first = np.diff(ptr), ptr[:-1] - ptr[0]
        rings = lengths > 2
        rings[rings] &= (points[first[rings]] != points[first[rings] + lengths[rings] - 1]).any(axis=1)
        area = np.zeros(len(lengths))
        if rings.any():
            of_ring = np.repeat(np.cumsum(rings) - 1, lengths)
            shapes = polygons(
                linearrings(points[np.repeat(rings, lengths)], indices=of_ring[np.repeat(rings, lengths)])
            )
            area[rings] = np.where(is_valid(shapes), shapely_area(shapes), 0)
        for k in range(len(lengths)):
            own = points[first[k] : first[k] + lengths[k]]
            if area[k]:
                ring = own.tolist()
                yield {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}, float(area[k])
            elif not len(own):
                at = np.round(cells.xy[start + k].astype(np.float64), _DIGITS)
                yield {"type": "Point", "coordinates": at.tolist()}, 0.0
            else:
                shape = _geometry([own])
                yield (None, 0.0) if shape is None else (_coordinates(shape), float(shape.area))


def _feature(
    geometry: dict[str, Any],
    *,
    key: str,
    kind: Literal["annotation", "detection", "cell"],
    classification: dict[str, Any] | None,
    name: str | None = None,
    measurements: Mapping[str, float] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Feature:
    """One GeoJSON feature as QuPath reads it; ``key`` decides its id."""
    properties: dict[str, Any] = {"objectType": kind}
    if classification is not None:
        properties["classification"] = classification
    if name is not None:
        properties["name"] = name
    if measurements:
        properties["measurements"] = {k: _number(v) for k, v in measurements.items()}
    if metadata:
        properties["metadata"] = dict(metadata)
    if kind == "annotation":
        properties["isLocked"] = True
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"hwsi:{key}")),
        "geometry": geometry,
        "properties": properties,
    }


def _number(value: float) -> float | str:
    """Six digits; QuPath reads what is not finite as text."""
    return round(float(value), 6) if np.isfinite(value) else str(value)


def _coordinates(shape: BaseGeometry) -> dict[str, Any]:
    def rings(polygon: Polygon) -> list[Any]:
        found = []
        for ring in (polygon.exterior, *polygon.interiors):
            found.append(np.round(np.asarray(ring.coords)[:, :2], _DIGITS).tolist())
        return found

    if isinstance(shape, MultiPolygon):
        return {"type": "MultiPolygon", "coordinates": [rings(part) for part in shape.geoms]}
    if not isinstance(shape, Polygon):
        raise TypeError(f"{shape.geom_type} is no area")
    return {"type": "Polygon", "coordinates": rings(shape)}


def _geometry(contours: Iterable[ArrayLike]) -> BaseGeometry | None:
    """The valid area that contours enclose; None if there is none."""
    parts: list[Polygon] = []
    for contour in contours:
        # rounded first: rounding a valid polygon may make it touch itself
        points = np.round(np.asarray(contour, np.float64), _DIGITS)
        if len(points) < 3:
            continue
        shape = _mended(Polygon(points))
        if isinstance(shape, Polygon):
            parts.append(shape)
        elif shape is not None:
            parts.extend(get_parts(shape).tolist())
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else _mended(MultiPolygon(parts))


def _mended(shape: Polygon | MultiPolygon) -> BaseGeometry | None:
    """``shape`` without self-touching, and without the lines and points that a mend may leave."""
    if shape.is_valid and shape.area > 0:
        return shape
    return _areas(set_precision(make_valid(shape), 10.0**-_DIGITS))


def _areas(mended: BaseGeometry) -> BaseGeometry | None:
    """What of a geometry has an area; None if nothing has."""
    # a mend or a cut may give a collection of areas and lines, an area again several parts
    parts = [part for piece in get_parts(mended).tolist() for part in get_parts(piece).tolist()]
    areas = [part for part in parts if isinstance(part, Polygon) and part.area > 0]
    if not areas:
        return None
    return areas[0] if len(areas) == 1 else MultiPolygon(areas)


def _box(box: Iterable[float]) -> Polygon:
    x0, y0, x1, y1 = box
    return Polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def _inside(box: tuple[int, int, int, int], width0: int, height0: int) -> tuple[int, int, int, int]:
    return box[0], box[1], min(box[2], width0), min(box[3], height0)


def _write(path: Path, features: Iterable[Feature]) -> int:
    count = 0
    with atomic_path(path) as temporary, _opened(temporary, compressed=path.suffix == ".gz") as file:
        file.write(b'{"type":"FeatureCollection","features":[')
        for feature in features:
            line = json.dumps(feature, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
            file.write((",\n" if count else "\n").encode() + line.encode())
            count += 1
        file.write(b"\n]}\n")
    return count


@contextmanager
def _opened(path: Path, *, compressed: bool) -> Iterator[IO[bytes]]:
    with path.open("wb") as raw:
        if not compressed:
            yield raw
            return
        with gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=6, mtime=0) as file:
            yield file  # type: ignore[misc]
