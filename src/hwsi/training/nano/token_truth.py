"""What the tokens of slide and regions must tell, as the language model reads them.

The encoders know far more than a language model finds in their vectors by its own loss: that a slide's lymphocytes are
plasma cells is a faint direction among 192. These linear readers behind the projectors, thrown away after training,
make it loud.
"""

from typing import Any

import torch
from torch import Tensor, nn

from hwsi.model.modeling import HwsiForConditionalGeneration
from hwsi.training.nano.attributes import BOTH, NUMBERS, SLIDE, Readers

Kinds = dict[str, Tensor]


class TokenReader(nn.Module):
    """Linear readers on the projected tokens of slides and regions."""

    def __init__(self, model: HwsiForConditionalGeneration) -> None:
        super().__init__()
        width = model.model.visual.config.width
        self.slide, self.region = Readers(width, SLIDE), Readers(width, BOTH)
        self._tokens: dict[str, Tensor] = {}
        for scale in ("slide", "region"):
            model.model.visual.projectors[scale].register_forward_hook(self._keeper(scale))

    def _keeper(self, scale: str) -> Any:
        def keep(module: nn.Module, args: Any, tokens: Tensor) -> None:
            self._tokens[scale] = tokens.float()

        return keep

    def loss(self, slides: list[Kinds], regions: list[Kinds]) -> Tensor:
        """Of the last forward pass; attribute -> classes of each row's slide (1,) and regions (R,), -1 unknown."""
        return self._read(self.slide, "slide", slides) + self._read(self.region, "region", regions)

    def _read(self, readers: Readers, scale: str, rows: list[Kinds]) -> Tensor:
        tokens = self._tokens[scale]
        kinds = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
        if len(tokens) != len(next(iter(kinds.values()))):
            raise ValueError(f"{len(tokens)} {scale} tokens for another number of truths")
        unknown = torch.full((len(tokens), len(NUMBERS)), torch.nan)
        return readers.loss(tokens, unknown, kinds)
