"""Text tower of the embedded preset: short pathology English to unit vectors of 192 numbers.

- Its tokenizer (byte-level BPE, so no text is unknown) stands in the weights file beside the tensors it belongs
  to: a tokenizer of another training can't slip in.
"""

from collections.abc import Iterable
from importlib.resources.abc import Traversable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from torch.nn import functional as F

from hwsi.encoders.nano import TEXT
from hwsi.encoders.vit import Block, init_weights
from hwsi.encoders.weights import initialise, metadata, save
from hwsi.errors import HwsiError, Reason

_MAX_TOKENS = 256
_PAD, _CLS = "[PAD]", "[CLS]"


def train_tokenizer(texts: Iterable[str], *, vocab: int = 2048) -> Tokenizer:
    """Byte-level BPE of lower-cased words with ``[CLS]`` first; without texts: the 256 bytes alone."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=[_PAD, _CLS], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{_CLS} $A", special_tokens=[(_CLS, 1)])
    return tokenizer


class TextNano(nn.Module):
    """``forward``: token ids int (B, T), mask bool (B, T) -> float32 (B, 192), rows of length one.

    Args:
        tokenizer: as :func:`train_tokenizer` makes it: ``[PAD]`` is 0 and every text begins with ``[CLS]``.
    """

    spec = TEXT

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = Tokenizer.from_str(tokenizer.to_str())  # own copy: padding is set on it
        self.tokenizer.enable_truncation(_MAX_TOKENS)
        self.tokenizer.enable_padding(pad_id=0, pad_token=_PAD)
        self.token = nn.Embedding(tokenizer.get_vocab_size(), 128)
        self.position = nn.Embedding(_MAX_TOKENS, 128)
        self.blocks = nn.ModuleList(Block(dim=128, heads=4, hidden=256) for _ in range(2))
        self.norm = nn.LayerNorm(128)
        self.out = nn.Linear(2 * 128, 192)
        self.apply(init_weights)

    def tokenise(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Ids int64 (B, T) and mask bool (B, T); cut after 256 tokens."""
        coded = self.tokenizer.encode_batch(texts)
        ids = torch.tensor([c.ids for c in coded], dtype=torch.long)
        mask = torch.tensor([c.attention_mask for c in coded], dtype=torch.bool)
        return ids, mask

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """int (B, T), bool (B, T) -> (B, 192)."""
        x = self.token(ids) + self.position.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, mask)
        x = self.norm(x)
        present = mask.unsqueeze(-1)
        mean = (x * present).sum(1) / present.sum(1)
        return F.normalize(self.out(torch.cat([x[:, 0], mean], dim=-1)), dim=-1)

    @torch.no_grad()
    def encode(self, texts: list[str]) -> Tensor:
        """Texts to float32 (B, 192), rows of length one, on the encoder's device."""
        at = self.token.weight.device
        if not texts:
            return torch.zeros(0, 192, device=at)
        ids, mask = self.tokenise(texts)
        return self(ids.to(at), mask.to(at))  # type: ignore[no-any-return]

    def save(self, path: Path) -> None:
        """Write weights and tokenizer into one file, as :func:`build` reads it."""
        plain = Tokenizer.from_str(self.tokenizer.to_str())
        plain.no_padding()
        plain.no_truncation()
        save(self, path, texts={"tokenizer": plain.to_str()})


def build(weights: Traversable | Path | None) -> TextNano:
    """The tower with weights and tokenizer of a file, or seeded random weights over bytes."""
    if weights is None:
        tokenizer = train_tokenizer([])
    else:
        text = metadata(weights).get("tokenizer")
        if text is None:
            what = f"{weights.name} holds no tokenizer"
            raise HwsiError(Reason.WEIGHTS_MISMATCH, what, "write it with TextNano.save")
        tokenizer = Tokenizer.from_str(text)
    return initialise(lambda: TextNano(tokenizer), weights)
