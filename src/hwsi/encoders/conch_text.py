"""CONCH's text tower: phrases to 512 numbers in the space that they share with CONCH's patches.

- The tokenizer is a file beside the weights (``tokenizer.json``, or called as in CONCH's repository); none is fetched.
- Tokens see what stands before them; a summary token at the end sees the text. Behind the text it sees one place of
  padding, since the published mask is shifted by one; the weights were trained with that.
- A batch is cut to its longest text: what is left out is seen by no token that counts, so the result is the same.

Source: Lu et al. 2024, doi 10.1038/s41591-024-02856-4; CoCa, arXiv 2205.01917.

Notation: B texts, L = 127 tokens of a text, T <= 128 tokens that are computed.
"""

from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from hwsi.encoders import foundation
from hwsi.encoders.checkpoints import Naming, load_checkpoint
from hwsi.encoders.vit_plain import Block
from hwsi.errors import HwsiError, Reason

_LENGTH = 127
_PAD = 0
_TOKENIZERS = ("tokenizer.json", foundation.CONCH_V1_TEXT.beside[0])
_TEXT = Naming(
    prefixes=("text.", "transformer."),
    dropped=(r"visual\..*", r"text_decoder\..*", r"logit_scale"),
    rules=(
        (r"^resblocks\.", "blocks."),
        (r"\.attn\.in_proj_(weight|bias)$", r".attn.qkv.\1"),
        (r"\.attn\.out_proj\.", ".attn.proj."),
        (r"\.ln_([12])\.", r".norm\1."),
        (r"\.mlp\.c_fc\.", ".mlp.fc1."),
        (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    ),
)


class ConchText(nn.Module):
    """``encode``: texts -> float32 (B, 512), rows of length one. Twelve blocks of 768.

    Args:
        tokenizer: of CONCH; None for a tower that is only given ids.
    """

    spec = foundation.CONCH_V1_TEXT

    def __init__(self, tokenizer: Tokenizer | None = None) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.token_embedding = nn.Embedding(32007, 768)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(_LENGTH + 1, 768))
        self.cls_emb = nn.Parameter(0.01 * torch.randn(768))
        self.blocks = nn.ModuleList(
            Block(dim=768, heads=12, hidden=3072, gated=False, scaled=False, eps=1e-5) for _ in range(12)
        )
        self.ln_final = nn.LayerNorm(768)
        self.text_projection = nn.Parameter(torch.randn(768, 512) / 768**0.5)

    def tokenise(self, texts: list[str]) -> Tensor:
        """Ids int64 (B, 127) with start and end, cut or padded. Raises HwsiError(WEIGHTS_MISSING) without tokenizer."""
        if self.tokenizer is None:
            todo = "put {} of {} beside its weights".format(*self.spec.beside)
            raise HwsiError(Reason.WEIGHTS_MISSING, "conch_v1_text has no tokenizer", todo)
        return torch.tensor([coded.ids for coded in self.tokenizer.encode_batch(texts)], dtype=torch.long)

    def forward(self, ids: Tensor) -> Tensor:
        """Ids int (B, 127), padded with 0 -> (B, 512), projected, of any length."""
        present = ids != _PAD
        # one place more than the longest text: the summary token sees it
        n = min(_LENGTH, int(present.sum(1).amax()) + 1)
        x = self.token_embedding(ids[:, :n]) + self.positional_embedding[:n]
        summary = (self.cls_emb + self.positional_embedding[_LENGTH]).expand(len(ids), 1, -1)
        x = torch.cat([x, summary], dim=1)
        seen = torch.ones(n + 1, n + 1, dtype=torch.bool, device=ids.device).tril().repeat(len(ids), 1, 1)
        seen[:, n, 1:n] = present[:, : n - 1]
        seen[:, n, n] = present[:, -1]
        for block in self.blocks:
            x = block(x, seen[:, None])
        return self.ln_final(x[:, n]) @ self.text_projection  # type: ignore[no-any-return]

    def encode(self, texts: list[str]) -> Tensor:
        """Texts to float32 (B, 512), rows of length one, on the encoder's device. Raises as :meth:`tokenise`."""
        at = self.cls_emb.device
        if not texts:
            return torch.zeros(0, 512, device=at)
        with torch.inference_mode():
            vectors = F.normalize(self(self.tokenise(texts).to(at)), dim=-1)
        return vectors.clone()


def read_tokenizer(file: Path) -> Tokenizer:
    """CONCH's tokenizer, set to 127 tokens. Raises HwsiError(WEIGHTS_MISMATCH) for a file that is none."""
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as e:  # the library raises nothing more specific
        raise HwsiError(Reason.WEIGHTS_MISMATCH, f"{file.name} is no tokenizer: {e}", "fetch it again") from e
    tokenizer.enable_truncation(_LENGTH)
    tokenizer.enable_padding(length=_LENGTH, pad_id=_PAD)
    return tokenizer


def build(weights: Path | None) -> ConchText:
    """The text tower with the weights of CONCH's file and the tokenizer beside it, or with seeded random weights.

    Raises:
        HwsiError: WEIGHTS_MISSING, WEIGHTS_MISMATCH. A missing tokenizer is told when texts are encoded.
    """
    tower = load_checkpoint(ConchText, weights, _TEXT)
    beside = [] if weights is None else [weights.with_name(name) for name in _TOKENIZERS]
    file = next((f for f in beside if f.is_file()), None)
    tower.tokenizer = None if file is None else read_tokenizer(file)
    return tower
