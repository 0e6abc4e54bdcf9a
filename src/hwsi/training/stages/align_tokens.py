"""Region and slide vectors of feature files made anew by encoders that ``align`` trained: no pixel is read.

What the patch and cell encoders found stays as it is; the file says by which weights the rest was made.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from hwsi.features import SlideFeatures, read_features, write_features
from hwsi.model.config import HwsiVisualConfig
from hwsi.training.data.store import feature_files
from hwsi.training.stages.align_config import Tower
from hwsi.training.stages.align_data import Reads, above, tissue_rows
from hwsi.training.stages.align_encoders import build_tower


def refresh(
    job: Path,
    out: Path,
    *,
    visual: HwsiVisualConfig,
    region: Tower,
    slide: Tower,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write the feature files of a job again, with region and slide vectors of other weights.

    Args:
        job: folder that ``hwsi encode`` wrote. out: a job folder for the new files.
        visual: of the model that reads them: which encoders' patches and cells stand below.
        region, slide: encoders and their weights, such as ``OUT/encoders/region.safetensors``.
        progress: called with (files done, files).

    Returns:
        The number of files.

    Raises:
        HwsiError: as ``build_tower`` and ``read_features``; FEATURES_MISMATCH.
    """
    built, digests = {}, {}
    for scale, tower in (("region", region), ("slide", slide)):
        encoder, digests[scale] = build_tower(tower, scale)
        built[scale] = encoder.to(device)
    reads = Reads(visual, built["region"].spec, built["slide"].spec, kept=0)
    files = feature_files(job)
    for n, path in enumerate(files, start=1):
        write_features(out / "features" / path.name, _refreshed(read_features(path), path, reads, built, digests))
        if progress is not None:
            progress(n, len(files))
    return len(files)


def _refreshed(
    features: SlideFeatures, path: Path, reads: Reads, built: dict[str, Any], digests: dict[str, str]
) -> SlideFeatures:
    seen = above(features, reads, tissue_rows(path) if reads.slide.with_tissue else None)
    # a slide's regions at once would be hundreds; as many as a preset encodes together are enough
    parts = zip(*(torch.split(x, 16) for x in (seen.patches, seen.there, seen.row_col)), strict=True)
    regions = torch.cat([built["region"].encode(*part).cpu() for part in parts])
    present = torch.ones(1, len(regions), dtype=torch.bool)
    whole = built["slide"].encode(torch.cat([regions, seen.tissue], 1)[None], present, seen.mm[None])[0]
    told = dict(features.provenance.get("encoders", {}))
    for scale, spec in (("region", reads.region), ("slide", reads.slide)):
        told[spec.id] = {
            "scale": scale,
            "revision": spec.revision,
            "weights_sha256": digests[scale],
            "dim": spec.dim,
            "licence": spec.licence,
        }
    # the key says what a file depends on, and that file was made from pixels: these were not
    provenance = {k: v for k, v in features.provenance.items() if k != "key"} | {"encoders": told}
    return replace(
        features,
        region={reads.region.id: regions.float().numpy()},
        slide={reads.slide.id: whole.float().cpu().numpy()},
        provenance=provenance,
    )
