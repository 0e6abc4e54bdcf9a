"""From a request to a drawing: tissue, lesion, organ, growth, cells; in that order, each from its own random stream.

The same request gives the same tables, whatever is painted later.
"""

from collections import Counter

import numpy as np

from hwsi.errors import HwsiError, Reason
from hwsi.phantom import filling, growth, layout
from hwsi.phantom.canvas import FLOW_UM, Canvas
from hwsi.phantom.drawing import Compartment, Drawing
from hwsi.phantom.geometry import sample
from hwsi.phantom.organs import LAY_OUT
from hwsi.phantom.spec import ORGAN_OF, Spec

_SMALLEST_UM, _LARGEST_UM = 384, 32768


def check(spec: Spec) -> None:
    """Refuse what cannot be drawn.

    Raises:
        HwsiError: option_invalid.
    """
    if spec.diagnosis not in ORGAN_OF:
        known = "; ".join(ORGAN_OF)
        raise HwsiError(Reason.OPTION_INVALID, f"no such diagnosis: {spec.diagnosis!r}", f"one of: {known}")
    for name, size in (("width_um", spec.width_um), ("height_um", spec.height_um)):
        if size % FLOW_UM or not _SMALLEST_UM <= size <= _LARGEST_UM:
            raise HwsiError(
                Reason.OPTION_INVALID,
                f"{name} is {size}",
                f"a multiple of {FLOW_UM} from {_SMALLEST_UM} to {_LARGEST_UM}",
            )
    ranges = {
        "tubules": (1, 3), "pleomorphism": (1, 3), "mitoses": (1, 3), "til": (0, 2), "plasma": (0, 1),
        "lesion_fraction": (0, 1), "focality": (1, 3), "fat": (0, 1), "fragments": (1, 4),
    }  # fmt: skip
    for name, (low, high) in ranges.items():
        value = getattr(spec, name)
        if not low <= value <= high:
            raise HwsiError(Reason.OPTION_INVALID, f"{name} is {value}", f"from {low} to {high}")
    unknown = set(spec.artefacts) - {"pen", "fold", "blur", "bubble"}
    if unknown or spec.pattern not in (None, "cribriform", "solid", "comedo"):
        raise HwsiError(
            Reason.OPTION_INVALID,
            f"artefacts {spec.artefacts} or pattern {spec.pattern!r} not known",
            "artefacts: pen, fold, blur, bubble; pattern: cribriform, solid, comedo or None",
        )


def draw(spec: Spec) -> Drawing:
    """Draw the layout of one slide.

    Raises:
        HwsiError: option_invalid, if the request is out of range.
    """
    check(spec)
    canvas = Canvas(spec)
    layout.lay_tissue(canvas)
    layout.lay_lesion(canvas)
    layout.lay_flow(canvas)
    LAY_OUT[spec.organ](canvas)
    if spec.malignant:
        growth.necrotise(canvas)
    filling.lay_vessels(canvas)
    growth.embolise(canvas)
    outside = ~canvas.outline
    canvas.compartments[outside] = Compartment.GLASS
    canvas.owner[outside] = -1
    filling.fill_epithelium(canvas)
    filling.fill_rest(canvas)
    filling.inflame(canvas)
    cells = filling.divide_and_die(canvas, filling.resolve(canvas))
    xy = np.stack([cells["x_um"], cells["y_um"]], 1)
    loose = cells["structure"] < 0
    cells["structure"][loose] = sample(canvas.owner, xy[loose])
    for index, count in Counter(cells["structure"].tolist()).items():
        if index >= 0:
            canvas.structures[index].attrs["n_cells"] = count
    return Drawing(
        width_um=spec.width_um,
        height_um=spec.height_um,
        compartments=canvas.compartments,
        lesion=canvas.lesion_um,
        cells=cells,
        structures=canvas.structures,
        flow=canvas.flow,
        extra={
            "seed": spec.seed,
            "owner": canvas.owner,
            "warp": canvas.warp,
            "loose": canvas.loose,
            "fragments": canvas.fragment,
        },
    )
