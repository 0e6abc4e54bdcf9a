"""What the released model reads of a slide: corrected by default, and as the release's scripts do it."""

import json
from dataclasses import replace

import encoding_fakes as fakes
import h5py
import numpy as np
import pytest
import torch
from shapely.geometry import box

import hwsi.slide
from hwsi.encoders import registry
from hwsi.encoders.slide_mean import SlideMean
from hwsi.encoding import encode_to_file
from hwsi.encoding.released import AS_RELEASED, fuse_cells
from hwsi.encoding.stack import Stack, choose
from hwsi.errors import HwsiError
from hwsi.features import read_features
from hwsi.features.released import ENCODERS, kept_rows, quadruplet, read_released
from hwsi.features.slide_features import CellBlock, CellsInMemory, CellSource
from hwsi.hierarchy.farthest import filter_as_released, filter_patches
from hwsi.presets import load_preset

RELEASED = load_preset("released")
SMALL = RELEASED.model_copy(update={"region_px": 512, "patch_px": 32, "cell_halo_um": 8})
# one region full of tissue; of the next four patches
TISSUE = box(0, 0, 512, 512).union(box(512, 0, 576, 64))


@pytest.fixture(autouse=True)
def fake_rooms(monkeypatch):
    for name, fake in fakes.fake_slide_room().items():
        monkeypatch.setitem(vars(hwsi.slide), name, fake)


class Patches:
    """Colours of a patch, spread over as many numbers as the real encoder has."""

    preparation = "resizes"

    def __init__(self, encoder_id, *, unit=False):
        self.spec = registry.get(encoder_id)
        self.unit = unit
        self.spread = torch.randn(12, self.spec.dim, generator=torch.Generator().manual_seed(0))

    def encode(self, images):
        x = images.float().permute(0, 3, 1, 2)
        corners = torch.nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)
        vectors = (corners / 255) @ self.spread
        return torch.nn.functional.normalize(vectors, dim=-1) if self.unit else vectors


class Regions:
    def __init__(self):
        self.spec = registry.get("hipt_vit4k")
        self.masks = []

    def encode(self, patches, mask, row_col):
        self.masks.append(mask.clone())
        weights = mask[..., None].float()
        return ((patches * weights).sum(1) / weights.sum(1).clamp(min=1))[:, :192]


class Cells(fakes.FakeCells):
    """Dark blobs; their vectors are as wide as CellViT's."""

    def __init__(self):
        super().__init__()
        self.spec = registry.get("cellvit_256")

    def encode(self, image, mpp, core=None):
        found = super().encode(image, mpp, core)
        wide = np.zeros((len(found), 384), np.float32)
        wide[:, :2] = found.features / 64
        return replace(found, features=wide)


class Fusion:
    """The mean of the cells, and how many there are."""

    def __init__(self):
        self.spec = registry.get("ccaf_dino")
        self.batches = []

    def __call__(self, cells, mask):
        self.batches.append(tuple(mask.shape))
        assert not cells.isnan().any()
        weights = mask[..., None].float()
        mean = (cells * weights).sum(1) / weights.sum(1).clamp(min=1)
        mean[:, 2] = mask.sum(1)
        return mean


def stack():
    return Stack(
        Cells(), Patches("conch_v1", unit=True), Regions(), SlideMean(),
        region_patch=Patches("hipt_vit256"), fusion=Fusion(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def pixels():
    return fakes.speckled(1024, 512, spacing=48)[0]


def encode(pixels, out, preset=SMALL, used=None, **slide):
    slide = fakes.FakeSlide(pixels, tissue=TISSUE, **slide)
    return read_features(encode_to_file(slide, out, preset=preset, stack=used or stack()))


@pytest.fixture
def made(pixels, tmp_path):
    return encode(pixels, tmp_path)


def test_the_files_are_the_releases(made, tmp_path):
    root = tmp_path / "released"
    load = torch.load
    found = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}
    assert found == {
        "region_4k/fake.pt", "wsi/fake.pt", "patches/fake.pt", "patches_filtered/fake.pt",
        "coords_region4096_valid/fake.h5", "fake/encoded_cell_features.pt", "metadata/fake.json",
    }  # fmt: skip
    region, wsi = (load(root / name / "fake.pt", weights_only=True) for name in ("region_4k", "wsi"))
    assert (region.shape, region.dtype) == ((2, 192), torch.float32)
    assert torch.allclose(wsi, region.mean(0), atol=1e-5)
    patches = load(root / "patches" / "fake.pt", weights_only=True)
    assert (patches.shape, patches.dtype) == ((2, 256, 512), torch.float32)
    filtered = load(root / "patches_filtered" / "fake.pt", weights_only=True)
    assert {k: (tuple(v.shape), v.dtype) for k, v in filtered.items()} == {
        "selected_features": ((2, 16, 512), torch.float32), "selected_indices": ((2, 16), torch.int64),
    }  # fmt: skip
    cells = load(root / "fake" / "encoded_cell_features.pt", weights_only=True)
    assert (cells["encoded_cell_features"].shape, cells["feature_dim"]) == ((2, 16, 384), 384)
    assert torch.equal(cells["selected_patch_cell_level_indices"], filtered["selected_indices"])
    with h5py.File(root / "coords_region4096_valid" / "fake.h5") as file:
        assert file["coords"][:].tolist() == [[0, 0], [512, 0]]
    parts = quadruplet(made)
    assert np.array_equal(filtered["selected_features"].numpy(), parts.patch)
    assert np.array_equal(cells["encoded_cell_features"].numpy(), parts.cell)
    assert np.array_equal(region.numpy(), parts.region)


def test_they_are_read_back_as_they_were_encoded(made, tmp_path):
    again = read_released(tmp_path / "released", "fake", mpp=0.5, size0=(1024, 512))
    a, b = quadruplet(made), quadruplet(again)
    assert all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("slide", "region", "patch", "cell"))
    tree, old = again.hierarchy, made.hierarchy
    assert np.array_equal(tree.patches.xy, old.patches.xy)
    assert np.array_equal(tree.patches.background, old.patches.background)
    assert tree.regions.size0 == 512
    metadata = tmp_path / "released" / "metadata" / "fake.json"
    assert json.loads(metadata.read_text())["region_size0"] == 512
    metadata.write_text("{")
    with pytest.raises(HwsiError, match="features_corrupt"):
        read_released(tmp_path / "released", "fake", mpp=0.5)


def test_background_is_never_kept(made):
    patch, tree = made.patch[ENCODERS["patch"]], made.hierarchy
    rows = kept_rows(made, patch)
    assert tree.patches.background.sum() == 256 - 4
    assert (rows >= 0).sum(1).tolist() == [16, 4]
    assert not tree.patches.background[rows[rows >= 0]].any()
    first = np.flatnonzero(~tree.patches.background[:256])
    assert rows[0].tolist() == first[filter_patches(patch[first])].tolist()
    assert made.provenance["released"]["as_released"] is False


def test_a_region_chooses_whatever_stands_beside_it(made, pixels, tmp_path):
    other = pixels.copy()
    other[:, :512] = other[::-1, :512] // 2 + 60
    changed = encode(other, tmp_path / "b")
    mine, others = (f.provenance["released"]["selected_indices"] for f in (made, changed))
    assert mine[1] == others[1]
    assert mine[0] != others[0]


def test_masks_are_used_everywhere(pixels, tmp_path, tiny_release):
    used = stack()
    made = encode(pixels, tmp_path, used=used)
    tree = made.hierarchy
    present = ~tree.patches.background.reshape(2, 256)
    seen = [m for m in used.region.masks if len(m) == 2]
    assert len(seen) == 1
    assert np.array_equal(seen[0].numpy(), present)
    cells = made.patch[ENCODERS["cell"]]
    rows = kept_rows(made, made.patch[ENCODERS["patch"]])
    with_cells = np.isin(np.arange(512), tree.cells.patch)
    kept = np.isin(np.arange(512), rows[rows >= 0])
    assert np.array_equal(cells.any(1), kept & with_cells)
    row = tiny_release[1].visual(made)
    expected = (rows >= 0) & with_cells[rows]
    assert np.array_equal(row["patch_mask"].numpy(), expected)
    assert np.array_equal(row["cell_mask"].numpy(), expected)
    assert expected.sum() > 4
    assert not expected[1, 4:].any()


class InPieces(CellSource):
    """The cells of a slide, one block for each."""

    def __init__(self, whole):
        (self.block,) = whole.blocks()
        self.cells, self.vertices, self.dims = whole.cells, whole.vertices, whole.dims

    def blocks(self):
        for region in (self.block.cells.patch < 256, self.block.cells.patch >= 256):
            lengths = np.diff(self.block.cells.contour_ptr)[region]
            cells = replace(
                self.block.cells, contour_ptr=np.cumsum([0, *lengths]), contour_xy=np.zeros((lengths.sum(), 2)),
                **{name: getattr(self.block.cells, name)[region] for name in ("xy", "patch", "type", "type_prob")},
            )  # fmt: skip
            yield CellBlock(cells, {k: v[region] for k, v in self.block.features.items()})


def test_fused_are_the_cells_of_the_kept_patch_and_no_others(made):
    tree, fusion = made.hierarchy, Fusion()
    rows = kept_rows(made, made.patch[ENCODERS["patch"]])
    source = CellsInMemory(made)
    fused = fuse_cells(tree, rows, source, "cellvit_256", fusion)
    assert np.array_equal(fused, made.patch[ENCODERS["cell"]])
    assert np.array_equal(fused, fuse_cells(tree, rows, InPieces(source), "cellvit_256", Fusion()))
    assert max(b for b, _ in fusion.batches) <= 16
    vectors = made.cell["cellvit_256"]
    for n in rows[rows >= 0].tolist():
        mine = vectors[tree.cells.patch == n]
        if len(mine):
            assert fused[n, 2] == len(mine)
            np.testing.assert_allclose(fused[n, :2], mine[:, :2].mean(0), rtol=1e-5)
        else:
            assert not fused[n].any()


def test_the_fusion_is_part_of_what_made_the_features(made):
    assert "ccaf_dino" in made.provenance["encoders"]
    assert {spec.id for spec in choose(RELEASED).all} == {
        "cellvit_256", "ccaf_dino", "conch_v1", "hipt_vit256", "hipt_vit4k", "slide-mean",
    }  # fmt: skip
    assert choose(load_preset("nano")).fusion is None


def test_cells_that_the_fusion_cannot_read_are_refused():
    narrow = replace(stack(), cell=fakes.FakeCells(), fusion=torch.nn.Linear(384, 384))
    narrow.fusion.spec = registry.get("ccaf_dino")
    narrow.fusion.forward = lambda cells, mask: torch.nn.functional.linear(cells[:, 0], torch.zeros(384, 384))
    with pytest.raises(HwsiError, match=r"option_invalid.*ccaf_dino does not read vectors of 2"):
        narrow.check(SMALL)


class Level:
    def __init__(self, slide, downsample):
        self.width, self.height = slide.width0 // downsample, slide.height0 // downsample
        self.downsample = float(downsample)


class Pyramid(fakes.FakeSlide):
    """A slide of 40x with levels, on which the release's 20x is level 1."""

    def __init__(self, pixels):
        super().__init__(pixels, mpp=0.25)
        self.levels = tuple(Level(self, d) for d in (1, 2, 32))

    def read_level(self, level, x, y, w, h):
        step = int(self.levels[level].downsample)
        return self.pixels[::step, ::step][y : y + h, x : x + w]


def test_as_released(tmp_path):
    pixels = np.full((4600, 9100, 3), 244, np.uint8)
    pixels[64:, 96:] = fakes.speckled(9004, 4536, spacing=97, size=24)[0]
    slide, used = Pyramid(pixels), stack()
    preset = RELEASED.model_copy(update={"as_released": True})
    made = read_features(encode_to_file(slide, tmp_path, preset=preset, stack=used))
    tree = made.hierarchy
    # the pitch is 8192, what is read 4096: the second region would end outside, and most of the tissue is not seen
    assert len(tree.regions) == 1
    assert (tree.regions.size0, tree.read_mpp) == (4096, 0.25)
    x0, y0 = tree.regions.xy[0].tolist()
    assert (x0, y0) == (128, 96)  # where the tissue's outline begins at the coarse level, not on a grid of the slide
    assert not tree.patches.background.any()
    assert all(m.all() for m in used.region.masks)
    patch = made.patch[ENCODERS["patch"]]
    x, y = tree.patches.xy[37].tolist()
    assert (x, y) == (x0 + 5 * 256, y0 + 2 * 256)
    image = torch.from_numpy(pixels[y : y + 256, x : x + 256].copy())
    np.testing.assert_allclose(patch[37], used.patch.encode(image[None])[0].numpy(), atol=1e-5)
    inside = tree.cells.xy - tree.patches.xy[tree.cells.patch]
    assert len(tree.cells) > 1000
    assert inside.min() >= 0
    assert inside.max() <= 256
    selected = made.provenance["released"]["selected_indices"]
    assert selected == filter_as_released(patch.reshape(1, 256, 512)).tolist()
    assert made.provenance["released"]["as_released"] is True
    assert AS_RELEASED in made.warnings
    again = read_released(tmp_path / "released", "fake", mpp=0.25)
    assert np.array_equal(again.hierarchy.patches.xy, tree.patches.xy)


def test_other_regions_have_no_place_in_that_layout(made, pixels, tmp_path):
    other = encode(pixels, tmp_path / "b", SMALL.model_copy(update={"region_px": 256}))
    assert not (tmp_path / "b" / "released").exists()
    assert quadruplet(other).patch.shape[1:] == (16, 512)
    assert other.provenance["key"] != made.provenance["key"]


def test_as_released_without_a_region(tmp_path):
    slide = Pyramid(np.full((4000, 5000, 3), 244, np.uint8))
    preset = RELEASED.model_copy(update={"as_released": True})
    with pytest.raises(HwsiError, match=r"no_tissue.*without --as-released"):
        encode_to_file(slide, tmp_path, preset=preset, stack=stack())
