"""A sheet to draw on: SVG with a ground of its own, so that it is legible on light and dark pages alike.

- Colours are classes; ``prefers-color-scheme`` chooses between two sets of them, ground included.
- Text stays text. Pictures are JPEGs inside the file: nothing is loaded from elsewhere.
"""

import base64
from html import escape
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

_STYLE = """
text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;font-size:14px;fill:var(--ink)}
.title{font-size:16px;font-weight:600}.small{font-size:12px;fill:var(--soft)}
.mid{text-anchor:middle}.end{text-anchor:end}
.ground{fill:var(--ground)}.line{stroke:var(--soft);stroke-width:1.2;fill:none}
.thin{stroke:var(--soft);stroke-width:.6;fill:none}
.mark{stroke:var(--mark);stroke-width:2.4;fill:none}.bar{fill:var(--mark)}.faint{fill:var(--faint)}
.empty{fill:none;stroke:var(--soft);stroke-dasharray:3 3}
.on-picture{stroke:#ffd400;stroke-width:2.4;fill:none}.veil{fill:#ffffff;fill-opacity:.72}
.strike{stroke:#3a4152;stroke-width:1.4}.label{fill:#1b1b1b;font-size:12px;font-weight:600}
.plate{fill:#ffd400}
svg{--ink:#1f2430;--soft:#626a7a;--mark:#1f5fbf;--faint:#d9dee8;--ground:#fbfbfa}
@media (prefers-color-scheme:dark){svg{--ink:#e8eaf0;--soft:#a4acbb;--mark:#7fb0ff;--faint:#3a4152;--ground:#1c2029}}
"""


class Sheet:
    """An SVG of ``width`` by ``height`` units that grows by what is drawn on it, in that order."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img">'
            f"<title>{escape(title)}</title><style>{_STYLE}</style>"
        )
        self._parts = [f'<rect class="ground" width="{width}" height="{height}" rx="8"/>']

    def text(self, x: float, y: float, words: str, kind: str = "") -> None:
        """Words on a baseline that begins at (x, y); ``kind``: title, small, label, mid, end, with spaces between."""
        self._parts.append(f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(words)}</text>')

    def box(self, x: float, y: float, w: float, h: float, kind: str = "line", *, opacity: float = 1) -> None:
        """A rectangle."""
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" class="{kind}" opacity="{opacity:g}"/>'
        )

    def line(
        self, x0: float, y0: float, x1: float, y1: float, kind: str = "line", *, width: float | None = None
    ) -> None:
        """A straight line."""
        stroke = "" if width is None else f' style="stroke-width:{width:g}"'
        self._parts.append(f'<line x1="{x0:g}" y1="{y0:g}" x2="{x1:g}" y2="{y1:g}" class="{kind}"{stroke}/>')

    def outline(self, points: NDArray[np.float64], kind: str) -> None:
        """A closed polygon through (n, 2) points."""
        self._parts.append(f'<polygon points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" class="{kind}"/>')

    def picture(self, x: float, y: float, w: float, h: float, pixels: Pixels) -> None:
        """RGB pixels (h, w, 3), put into the file as a JPEG."""
        done, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])
        if not done:
            raise ValueError("the picture could not be encoded")
        inside = base64.b64encode(data.tobytes()).decode()
        self._parts.append(
            f'<image x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" href="data:image/jpeg;base64,{inside}"/>'
        )

    def save(self, path: Path) -> None:
        """Written to ``path``."""
        path.write_text("\n".join([self._head, *self._parts, "</svg>", ""]), encoding="utf-8")
