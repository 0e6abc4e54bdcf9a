"""``hwsi info``: what a slide says about itself."""

from typing import Annotated, Any

import typer

from hwsi.cli.console import one_line, out, print_json
from hwsi.cli.options import JsonOpt, MppOpt, SlideArg
from hwsi.errors import HwsiError, Reason


def info(
    slide: SlideArg,
    mpp: MppOpt = None,
    tissue: Annotated[bool, typer.Option("--tissue", help="Also find the tissue and tell its area.")] = False,
    json: JsonOpt = False,
) -> None:
    """Show size, levels, resolution and format of a slide, and see that its pixels can be read."""
    from hwsi.slide import open_slide

    with open_slide(slide, mpp=mpp) as opened:
        opened.check()
        facts: dict[str, Any] = {
            "path": str(opened.path),
            "name": opened.name,
            "slide_id": opened.slide_id,
            "vendor": opened.vendor,
            "width": opened.width0,
            "height": opened.height0,
            "levels": [
                {"width": v.width, "height": v.height, "downsample": round(v.downsample, 6)} for v in opened.levels
            ],
            "mpp": None,
            "mpp_x": None,
            "mpp_y": None,
            "mpp_source": None,
            "objective_power": opened.objective_power,
            "associated": list(opened.associated),
        }
        try:
            facts |= {"mpp": opened.mpp, "mpp_x": opened.mpp_xy[0], "mpp_y": opened.mpp_xy[1]}
            facts["mpp_source"] = opened.mpp_source
        except HwsiError as error:
            # a slide of unknown resolution can be looked at; only tissue needs microns
            if error.reason not in (Reason.MPP_MISSING, Reason.MPP_INVALID) or tissue:
                raise
        if tissue:
            from hwsi.slide import find_tissue

            area_px0 = sum(p.area for p in find_tissue(opened).polygons)
            facts["tissue_mm2"] = round(area_px0 * opened.mpp_xy[0] * opened.mpp_xy[1] / 1e6, 4)
        facts["warnings"] = list(opened.warnings)
    if json:
        print_json(facts)
    else:
        _show(facts)


def _show(facts: dict[str, Any]) -> None:
    console = out()
    rows = [
        ("name", facts["name"]),
        ("format", facts["vendor"]),
        ("size", f"{facts['width']:,} x {facts['height']:,} px"),
        ("resolution", _resolution(facts)),
        ("objective", f"{facts['objective_power']:g}x" if facts["objective_power"] else "unknown"),
        ("levels", ", ".join(f"{v['width']} x {v['height']} (1/{v['downsample']:g})" for v in facts["levels"])),
        ("associated", ", ".join(facts["associated"]) or "none"),
        ("slide id", facts["slide_id"]),
    ]
    if "tissue_mm2" in facts:
        rows.append(("tissue", f"{facts['tissue_mm2']:.3g} mm²"))
    rows += [("warning", w) for w in facts["warnings"]]
    for name, value in rows:
        console.print(f"{name:<11} {one_line(str(value))}", markup=False)


def _resolution(facts: dict[str, Any]) -> str:
    if facts["mpp"] is None:
        return "unknown; give it with --mpp"
    x, y = facts["mpp_x"], facts["mpp_y"]
    value = f"{x:.5g}" if abs(x / y - 1) < 1e-6 else f"{x:.5g} x {y:.5g}"
    return f"{value} µm per pixel (from {facts['mpp_source']})"
