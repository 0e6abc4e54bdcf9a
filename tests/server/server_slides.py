"""A folder with a small slide, features that fit it, and an untrained nano: all that a server needs, in a second."""

from pathlib import Path

import numpy as np
import tifffile

SIDE0, PATCH0, COLS, MPP = 512, 128, 4, 0.5
WIDTH0, HEIGHT0 = 1400, 900  # regions of the last row and column reach over the border
TOKEN = "a-token-for-the-tests"


def pixels(seed: int = 0, width: int = WIDTH0, height: int = HEIGHT0) -> np.ndarray:
    """Pink with purple dots; every pixel differs a little, so that a shift is seen."""
    rng = np.random.default_rng(seed)
    image = np.clip(rng.normal((226, 160, 190), 6, (height, width, 3)), 0, 255).astype(np.uint8)
    yy, xx = np.mgrid[:height, :width]
    image[(np.hypot(yy % 90 - 45, xx % 90 - 45) < 9)] = (92, 56, 132)
    image[:, :, 1] = (image[:, :, 1] * (0.5 + 0.5 * xx / width)).astype(np.uint8)
    return image


def write_image(path: Path, image: np.ndarray, *, mpp: float | None = MPP, compression: str = "deflate") -> Path:
    """A tiled TIFF without a pyramid."""
    where = {"resolution": (10_000 / mpp, 10_000 / mpp), "resolutionunit": "CENTIMETER"} if mpp else {}
    tifffile.imwrite(path, image, tile=(256, 256), photometric="rgb", compression=compression, **where)
    return path


def make_features(slide_id: str, name: str, *, seed: int = 0, cells_per_patch: int = 8):
    """Features of a slide of 3 x 2 regions."""
    from hwsi.features import SlideFeatures
    from hwsi.hierarchy.tree import Cells, Hierarchy, Patches, Regions

    rng = np.random.default_rng(seed)
    grid = np.array([(r, c) for r in range(2) for c in range(3)], np.int64)
    r = len(grid)
    xy = grid[:, ::-1] * SIDE0
    ones, zeros = np.ones(r, np.float32), np.zeros(r, np.float32)
    outside = (xy + SIDE0 > (WIDTH0, HEIGHT0)).any(1)
    regions = Regions(xy=xy, size0=SIDE0, grid=grid, tissue=ones, focus=ones, pen=zeros, padded=outside)
    parent = np.repeat(np.arange(r), COLS * COLS)
    row_col = np.tile(np.array([(a, b) for a in range(COLS) for b in range(COLS)]), (r, 1))
    patch_xy = xy[parent] + row_col[:, ::-1] * PATCH0
    background = (patch_xy + PATCH0 / 2 >= (WIDTH0, HEIGHT0)).any(1)
    patches = Patches(
        xy=patch_xy, size0=PATCH0, region=parent, row_col=row_col,
        tissue=np.where(background, 0, 1).astype(np.float32), background=background,
    )  # fmt: skip
    owner = np.repeat(np.flatnonzero(~background), cells_per_patch)
    m = len(owner)
    centre = (patch_xy[owner] + rng.uniform(8, PATCH0 - 8, (m, 2))).astype(np.float32)
    turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    ring = np.stack([np.cos(turn), np.sin(turn)], 1) * 6
    cells = Cells(
        xy=centre, patch=owner, contour_ptr=np.arange(m + 1) * 12,
        contour_xy=(centre[:, None] + ring).reshape(-1, 2).astype(np.float32),
        type=rng.integers(0, 5, m), type_prob=rng.uniform(0.2, 1, m).astype(np.float32),
    )  # fmt: skip
    tree = Hierarchy(WIDTH0, HEIGHT0, MPP, SIDE0, PATCH0, MPP, regions, patches, cells)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    patch = draw(len(patch_xy), 192)
    patch[background] = 0
    outline = np.array([(10, 10), (WIDTH0 - 10, 10), (WIDTH0 - 10, HEIGHT0 - 10), (10, HEIGHT0 - 10)], float)
    return SlideFeatures(
        slide_id=slide_id, slide_name=name, hierarchy=tree, mpp_source="user", preset="nano",
        patch={"patch-nano": patch}, cell={"cell-nano": draw(m, 64)}, region={"region-nano": draw(r, 192)},
        slide={"slide-nano": draw(192)}, tissue=((outline,),), warnings=("a warning of the slide",),
        provenance={"key": f"made-{seed}"},
    )  # fmt: skip


def make_folder(at: Path, made_slide: Path) -> Path:
    """Slides: one that is encoded, one that is not, one that is damaged; what must not be seen beside the folder."""
    from hwsi.features import write_features
    from hwsi.slide import open_slide

    slides = at / "slides"
    slides.mkdir()
    (slides / "made.tiff").write_bytes(made_slide.read_bytes())
    (slides / "bad.svs").write_bytes(b"II*\0" + b"\xff" * 500)
    (slides / "<img src=x onerror=alert(1)>.png").write_bytes(_png())
    (at / "secret.png").write_bytes(_png())
    with open_slide(slides / "made.tiff") as slide:
        write_features(slides / ".hwsi" / "features" / "made.h5", make_features(slide.slide_id, slide.name))
    return slides


def _png() -> bytes:
    import io

    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(pixels(1, 300, 200)).save(data, "PNG")
    return data.getvalue()


def encoded_slide(client) -> str:
    """Id of the encoded slide."""
    return next(s["id"] for s in client.get("/api/slides").json()["slides"] if s["encoded"])
