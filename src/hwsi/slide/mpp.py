"""Micrometres per pixel of level 0: one written chain, the first that gives a believable value wins.

1. the user's own value (``--mpp``);
2. the vendor's property: ``openslide.mpp-x/y``, else the raw one (``aperio.MPP``, ``mirax``, ``philips``, ...);
3. OME ``PhysicalSizeX/Y`` with its unit;
4. TIFF resolution tags in pixels per centimetre or inch, unless they are a print resolution such as 72 dpi.
   OpenSlide's mpp of a generic TIFF comes from these tags, so it is taken here and called ``tiff-resolution``.
   ImageJ and Fiji write pixels per micrometre there and name the unit in the description (``imagej``);
5. the objective's power, 10 / power, with a warning: the true value may be off by 20 %;
6. none: the slide opens, and what needs the pixel size refuses and says how to give it.

Values are kept as they are, x and y apart; nothing is snapped to a nominal magnification. A value outside
0.05 to 50 µm/px is not believed: the user's is refused, the file's is passed over with a warning.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree import ElementTree

from hwsi.errors import HwsiError, Reason

MIN_MPP, MAX_MPP = 0.05, 50.0

_TODO = "give it by hand: --mpp 0.5 (micrometres per pixel of the full resolution; 40x is near 0.25, 20x near 0.5)"

_PRINT_DPI = (
    72.0,
    75.0,
    96.0,
    100.0,
    120.0,
    144.0,
    150.0,
    180.0,
    200.0,
    240.0,
    250.0,
    300.0,
    350.0,
    400.0,
    600.0,
    1200.0,
)
"""Defaults of image editors and printers: they say nothing about the microscope."""

_UM_PER = {
    "m": 1e6, "dm": 1e5, "cm": 1e4, "mm": 1e3, "um": 1.0, "µm": 1.0, "μm": 1.0, "micron": 1.0, "microns": 1.0,
    "micrometer": 1.0, "micrometre": 1.0, "nm": 1e-3, "å": 1e-4, "pm": 1e-6, "in": 25400.0, "inch": 25400.0,
    "mil": 25.4,
}  # fmt: skip

_SAME = 0.02
"""A user's value within this of the file's is the same, rounded."""

_VENDOR_KEYS = (
    ("aperio.MPP", "aperio.MPP"),
    ("mirax.LAYER_0_LEVEL_0_SECTION.MICROMETER_PER_PIXEL_X", "mirax.LAYER_0_LEVEL_0_SECTION.MICROMETER_PER_PIXEL_Y"),
    ("ventana.ScanRes", "ventana.ScanRes"),
)


@dataclass(frozen=True)
class MppHints:
    """What a file says about its pixel size, in the order in which it is believed.

    Attributes:
        sizes: (source, x, y) candidates in micrometres per pixel.
        objective_power: for the last resort.
    """

    sizes: tuple[tuple[str, float, float], ...] = ()
    objective_power: float | None = None


@dataclass(frozen=True)
class MppResult:
    """The outcome of the chain.

    Attributes:
        xy: µm per pixel in x and y, or None.
        source: who said it; 'none' if nobody did.
        warnings: what was passed over, or is only a guess.
    """

    xy: tuple[float, float] | None
    source: str
    warnings: tuple[str, ...]

    def required(self, name: str) -> tuple[float, float]:
        """The value, or the refusal that tells how to give it.

        Raises:
            HwsiError: MPP_MISSING, or MPP_INVALID if the file gives one that cannot be.
        """
        if self.xy is not None:
            return self.xy
        if self.warnings:
            raise HwsiError(Reason.MPP_INVALID, f"{name}: {'; '.join(self.warnings)}", _TODO)
        raise HwsiError(Reason.MPP_MISSING, f"{name} does not say how large its pixels are", _TODO)


def believable(mpp: float) -> bool:
    """Whether a pixel of this size (µm) can come from a microscope or slide scanner."""
    return math.isfinite(mpp) and MIN_MPP <= mpp <= MAX_MPP


def resolve_mpp(user: float | None, hints: MppHints) -> MppResult:
    """Walk the chain.

    Raises:
        HwsiError: MPP_INVALID, the user's own value cannot be.
    """
    if user is not None:
        if not believable(user):
            raise HwsiError(
                Reason.MPP_INVALID,
                f"{user:g} micrometres per pixel cannot be: it must lie between {MIN_MPP:g} and {MAX_MPP:g}",
                _TODO,
            )
        return MppResult((float(user), float(user)), "user", _contradicted(user, hints))
    warnings: list[str] = []
    for source, x, y in hints.sizes:
        if believable(x) and believable(y):
            return MppResult((x, y), source, tuple(warnings))
        warnings.append(f"{source} says {x:g} x {y:g} µm/px, which cannot be; passed over")
    power = hints.objective_power
    if power is not None and believable(10 / power):
        warnings.append(f"pixel size guessed from the objective, 10 / {power:g} = {10 / power:g} µm/px")
        return MppResult((10 / power, 10 / power), "objective-power", tuple(warnings))
    return MppResult(None, "none", tuple(warnings))


def _contradicted(user: float, hints: MppHints) -> tuple[str, ...]:
    """A warning where the file says something else than the user: a slip of the hand changes all that is found."""
    for source, x, y in hints.sizes:
        if believable(x) and believable(y):
            if abs(math.sqrt(x * y) / user - 1) <= _SAME:
                return ()
            return (f"{user:g} µm/px was given by hand, but the file says {x:g} x {y:g} ({source})",)
    return ()


def positive_number(text: str | None) -> float | None:
    """A finite number above zero, or None; comma as decimal mark is understood."""
    try:
        value = float((text or "").strip().replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None


def from_resolution(x: float, y: float, unit: str) -> tuple[tuple[str, float, float], ...]:
    """Candidate from pixels per ``unit`` ('inch' or 'centimeter'); none for print resolutions and no unit."""
    um = {"inch": 25400.0, "centimeter": 10000.0}.get(unit)
    if um is None or not (x > 0 and y > 0 and math.isfinite(x) and math.isfinite(y)):
        return ()
    dpi = x * 25400.0 / um
    if any(abs(dpi - p) < 0.005 * p for p in _PRINT_DPI) or dpi <= 3:
        return ()
    return (("tiff-resolution", um / x, um / y),)


def from_imagej(x: float, y: float, description: Mapping[str, object]) -> tuple[tuple[str, float, float], ...]:
    """Candidate from pixels per unit, where ImageJ's description names the unit; none where that is no length."""
    unit = str(description.get("unit", "")).replace("\\u00B5", "µ").strip().lower()
    um = _UM_PER.get(unit)
    if um is None or not (x > 0 and y > 0 and math.isfinite(x) and math.isfinite(y)):
        return ()
    return (("imagej", um / x, um / y),)


def from_openslide(properties: Mapping[str, str]) -> MppHints:
    """What OpenSlide's properties say; for a generic TIFF its OME description, if any, goes first."""
    vendor = properties.get("openslide.vendor", "")
    sizes: list[tuple[str, float, float]] = []
    x, y = (positive_number(properties.get(f"openslide.mpp-{axis}")) for axis in "xy")
    if x is not None and y is not None and vendor != "generic-tiff":
        sizes.append(("aperio.MPP" if vendor == "aperio" else f"{vendor} (openslide.mpp)", x, y))
    for key_x, key_y in _VENDOR_KEYS:
        x, y = positive_number(properties.get(key_x)), positive_number(properties.get(key_y))
        if x is not None and y is not None and not sizes:
            sizes.append((key_x, x, y))
    sizes += from_ome(properties.get("tiff.ImageDescription", ""))
    x, y = (positive_number(properties.get(f"tiff.{axis}Resolution")) for axis in "XY")
    if x is not None and y is not None:
        sizes += from_resolution(x, y, properties.get("tiff.ResolutionUnit", "inch"))
    power = positive_number(properties.get("openslide.objective-power") or properties.get("aperio.AppMag"))
    return MppHints(tuple(sizes), power)


def _local(element: ElementTree.Element) -> str:
    return element.tag.rsplit("}", 1)[-1]


def _ome_root(xml: str) -> ElementTree.Element | None:
    if "<OME" not in xml and ":OME" not in xml:
        return None
    try:
        return ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None


def from_ome(xml: str, size: tuple[int, int] | None = None) -> tuple[tuple[str, float, float], ...]:
    """Candidate from an OME-XML: the image of ``size`` (width, height) if given and there, else the first."""
    root = _ome_root(xml)
    if root is None:
        return ()
    pixels = [e for e in root.iter() if _local(e) == "Pixels"]
    fitting = [p for p in pixels if size and (p.get("SizeX"), p.get("SizeY")) == (str(size[0]), str(size[1]))]
    for p in (fitting or pixels)[:1]:
        both: list[float] = []
        for axis in "XY":
            value = positive_number(p.get(f"PhysicalSize{axis}"))
            um = _UM_PER.get((p.get(f"PhysicalSize{axis}Unit") or "µm").strip().lower())
            if value is not None and um is not None:
                both.append(value * um)
        if len(both) == 2:
            return (("ome", both[0], both[1]),)
    return ()


def ome_objective_power(xml: str) -> float | None:
    """Nominal magnification of the first objective of an OME-XML."""
    root = _ome_root(xml)
    found = [e for e in root.iter() if _local(e) == "Objective"] if root is not None else []
    return positive_number(found[0].get("NominalMagnification")) if found else None
