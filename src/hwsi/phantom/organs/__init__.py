"""One file per organ: what lies where, before the cells that all organs share."""

from collections.abc import Callable

from hwsi.phantom.canvas import Canvas
from hwsi.phantom.organs import breast, colon, lung, lymph_node, prostate

LAY_OUT: dict[str, Callable[[Canvas], None]] = {
    "breast": breast.lay_out,
    "colon": colon.lay_out,
    "lung": lung.lay_out,
    "lymph node": lymph_node.lay_out,
    "prostate": prostate.lay_out,
}
