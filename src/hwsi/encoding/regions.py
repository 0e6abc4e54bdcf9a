"""Region after region: patches and cells from the same pixels, into the journal; then their tokens.

- Every region is read once. While the patch encoders are at work, the next regions are read, their patches resized as
  the encoders want them and their cells found in other threads; a few regions are in memory at a time, however large
  the slide.
- Nothing that is computed may depend on where a run began, or a resumed run would give other bytes: batches
  never cross the border of a region, and region tokens are made from all patches together, at the end.

Notation: R regions, T patches of a region, n of them with tissue, D width of an encoder.
"""

from collections import deque
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hwsi.encoders.base import PatchEncoder
from hwsi.encoders.pixels import Preparation
from hwsi.encoders.summaries import cells_dim, summarise_cells
from hwsi.encoding.cells import find_cells
from hwsi.encoding.journal import Journal
from hwsi.encoding.pixels import Readable, RegionPixels, RegionPlan, plan_regions, read_region
from hwsi.encoding.precision import precise
from hwsi.encoding.progress import Progress
from hwsi.encoding.stack import Stack
from hwsi.encoding.timing import Timings
from hwsi.encoding.turns import Turn, at_once
from hwsi.errors import HwsiError, Reason
from hwsi.features.slide_features import CellBlock
from hwsi.hierarchy.farthest import farthest_points
from hwsi.hierarchy.tree import Hierarchy, Int
from hwsi.presets import Preset

Rows = NDArray[np.float32]
NOTHING: Mapping[str, Rows] = {}


def encode_regions(
    slide: Readable,
    tree: Hierarchy,
    preset: Preset,
    stack: Stack,
    journal: Journal,
    progress: Progress,
    timings: Timings,
    turn: Turn = at_once,
    given: Mapping[str, Rows] = NOTHING,
    only: frozenset[int] | None = None,
) -> None:
    """Patches and cells of every region that the journal does not have, into the journal.

    Args:
        slide: its pixels. tree: its regions and patches. preset, stack: how they are encoded.
        journal: entered. progress: is told how far it is. timings: collects where the time goes.
        turn: entered around the work of the patch encoders.
        given: encoder -> (N, D) of all patches: what need not be computed.
        only: regions, where not all are wanted.
    """
    plans = [plan for plan in plan_regions(tree) if only is None or plan.region in only]
    count = _Count(progress, regions=len(plans), patches=sum(len(plan.patches) for plan in plans))
    missing = []
    for plan in plans:
        cells = journal.count(plan.region, len(plan.patches))
        if cells is None:
            missing.append(plan)
        else:
            count.add(len(plan.patches), cells)
    count.tell()
    wanted = [encoder for encoder in stack.patches if encoder.spec.id not in given]
    with closing(_ahead(slide, tree, missing, preset, stack, wanted, timings)) as ahead:
        for plan, prepared, found in ahead:
            images = prepared.result()
            del prepared  # its memory goes before the next region is read
            rows = {encoder: values[plan.patches] for encoder, values in given.items()}
            with turn(), timings("patch"):
                # the region's own first: they say which of the others are worth encoding
                for encoder, one in reversed([*zip(wanted, images, strict=True)]):
                    with timings(encoder.spec.id):
                        batch, chosen = stack.batch_of(encoder, preset), _spread(encoder, stack, preset, rows)
                        part = one if chosen is None else one[chosen]
                        made = _encode_patches(part, batch, encoder, stack.device, preset)
                        rows[encoder.spec.id] = _in_place(made, chosen, len(one))
            of_patches = [rows[encoder.spec.id] for encoder in stack.patches]
            block = found.result()
            with timings("journal"):
                journal.put(plan.region, of_patches[0], block, of_patches[1] if len(of_patches) > 1 else None)
            count.add(len(plan.patches), len(block.cells))
            count.tell()


def cell_rows(tree: Hierarchy, stack: Stack, journal: Journal) -> Rows:
    """What the region encoder reads of the cells of every patch (N, :func:`cells_dim`)."""
    spec = stack.cell.spec
    rows = np.zeros((len(tree.patches), cells_dim(spec.dim)), np.float32)
    of_region = tree.patches.of_region(len(tree.regions))
    for region, (start, end) in enumerate(pairwise(of_region.tolist())):
        block = journal.block(region)
        cells = block.cells
        rows[start:end] = summarise_cells(block.features[spec.id], cells.type, cells.patch - start, end - start)
    return rows


def encode_region_tokens(tree: Hierarchy, patch: Rows, preset: Preset, stack: Stack) -> Rows:
    """Features (R, D) of all regions, from what their encoder reads (N, Dp) of all patches."""
    r = len(tree.regions)
    per_region = (tree.region_px // tree.patch_px) ** 2
    tokens = patch.reshape(r, per_region, -1)
    present = ~tree.patches.background.reshape(r, per_region)
    places = tree.patches.row_col.reshape(r, per_region, 2)
    made = []
    with torch.inference_mode():
        for start in range(0, r, preset.region_batch):
            part = slice(start, start + preset.region_batch)
            # copied, since the arrays of a tree are not writable and torch knows no such tensors
            batch = (torch.from_numpy(a[part].copy()).to(stack.device) for a in (tokens, present, places))
            made.append(stack.region.encode(*batch).float().cpu().numpy())
    return np.concatenate(made)


@dataclass
class _Count:
    """What is done so far."""

    progress: Progress
    regions: int
    patches: int
    done_regions: int = 0
    done_patches: int = 0
    done_cells: int = 0

    def add(self, patches: int, cells: int) -> None:
        self.done_regions += 1
        self.done_patches += patches
        self.done_cells += cells

    def tell(self) -> None:
        self.progress("regions", self.done_regions, self.regions)
        self.progress("patches", self.done_patches, self.patches)
        self.progress("cells", self.done_cells, None)


def _ahead(
    slide: Readable,
    tree: Hierarchy,
    plans: list[RegionPlan],
    preset: Preset,
    stack: Stack,
    wanted: Sequence[PatchEncoder],
    timings: Timings,
) -> Generator[tuple[RegionPlan, Future[list[Tensor]], Future[CellBlock]]]:
    """Regions in order, with their patches (one batch for each encoder) and cells under way ahead of the taker."""
    cell_mpp = stack.cell.spec.mpp or preset.read_mpp

    def read(plan: RegionPlan) -> RegionPixels:
        with timings("read"):
            return read_region(slide, tree, plan, halo_um=preset.cell_halo_um, cell_mpp=cell_mpp)

    def prepare(pixels: Future[RegionPixels]) -> list[Tensor]:
        region = pixels.result()
        with timings("prepare"):
            images = torch.from_numpy(region.patches()) if wanted else torch.zeros(0)
            # of what is spared most patches, few are worth preparing
            spared = stack.patch if preset.patch_spread is not None else None
            prepared = [images if encoder is spared else _prepared(encoder, images) for encoder in wanted]
            # page-locked memory is copied to a GPU while it computes
            return [one.pin_memory() for one in prepared] if stack.device.startswith("cuda") else prepared

    def segment(pixels: Future[RegionPixels]) -> CellBlock:
        image = pixels.result()
        with timings("cells"), torch.inference_mode():  # a mode of its thread
            return find_cells(image, stack.cell)

    # as many as torch may use, halved: who encodes slides side by side gives each process fewer threads
    workers = max(1, torch.get_num_threads() // 2)
    readers = ThreadPoolExecutor(1, thread_name_prefix="read")
    preparers = ThreadPoolExecutor(workers, thread_name_prefix="prepare")
    finders = ThreadPoolExecutor(workers, thread_name_prefix="cells")
    waiting, started = deque(plans), deque[tuple[RegionPlan, Future[list[Tensor]], Future[CellBlock]]]()
    try:
        while waiting or started:
            while waiting and len(started) <= workers:
                plan = waiting.popleft()
                pixels = readers.submit(read, plan)
                started.append((plan, preparers.submit(prepare, pixels), finders.submit(segment, pixels)))
                del pixels
            yield started.popleft()
    finally:
        for pool in (readers, preparers, finders):
            pool.shutdown(cancel_futures=True)


def _spread(encoder: PatchEncoder, stack: Stack, preset: Preset, rows: Mapping[str, Rows]) -> Int | None:
    """Which patches of a region an encoder is to see, ascending; None for all (``Preset.patch_spread``)."""
    if preset.patch_spread is None or encoder is not stack.patch or stack.region_patch is None:
        return None
    chosen = farthest_points(rows[stack.region_patch.spec.id], preset.patch_spread)[0]
    return np.sort(chosen)


def _in_place(made: Rows, chosen: Int | None, count: int) -> Rows:
    """The vectors of some patches in a table (count, D) of all, zeros elsewhere."""
    if chosen is None:
        return made
    rows = np.zeros((count, made.shape[1]), np.float32)
    rows[chosen] = made
    return rows


def _prepared(encoder: PatchEncoder, images: Tensor) -> Tensor:
    """Patches (n, H, H, 3) at the size that an encoder sees, if it says how they get there."""
    preparation = getattr(encoder, "preparation", None)
    return preparation.resized(images) if isinstance(preparation, Preparation) else images


def _encode_patches(images: Tensor, batch: int, encoder: PatchEncoder, device: str, preset: Preset) -> Rows:
    """Features (n, D) of the patches (n, H, W, 3) of one region."""
    made = []
    try:
        with torch.inference_mode(), precise(preset, device):
            for start in range(0, len(images), batch):
                part = images[start : start + batch].to(device, non_blocking=True)
                made.append(encoder.encode(part).float())
            return torch.cat(made).cpu().numpy()  # once: a GPU is not kept waiting between batches
    except torch.OutOfMemoryError as error:
        what = f"{batch} patches at once do not fit into the memory of {device} with {encoder.spec.id}"
        todo = "write a smaller patch_batch into a copy of the preset"
        raise HwsiError(Reason.OPTION_INVALID, what, todo) from error
