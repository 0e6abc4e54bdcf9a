"""Where real reports lie, if they do."""

from pathlib import Path

REPORTS = (
    Path(__file__).resolve().parents[3].parent
    / "shared"
    / "data"
    / "text"
    / "wsi-bench"
    / "WSI-Bench-Report-only.jsonl"
)
