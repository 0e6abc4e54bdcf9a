"""BERTScore: how well the words of two texts can be paired by the vectors that an encoder model gives them.

- F1 of greedy matching by cosine, without idf weights and without rescaling; the encoder's own first and last marks
  match nothing (Zhang et al. 2020, arXiv 1904.09675, equation 1).
- Numbers of different encoders and layers are not comparable, so both are part of the figure's name. MLLM-HWSI takes
  layer 9 of BiomedNLP-PubMedBERT-base-uncased-abstract-fulltext on the first 256 words: the defaults here.
- The model is a folder on this machine; nothing is fetched. Negative similarities count as none, so that the figure
  lies in [0, 1]; an empty text scores 0.

Notation: n, m tokens of reference and answer, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hwsi.benchmarks.statistics import SumFigure, mean_of
from hwsi.errors import HwsiError, Reason

LAYER, MAX_WORDS = 9, 256


@dataclass
class BertScore:
    """An encoder of words.

    Attributes:
        name: of its folder. layer: whose vectors are compared, from 1. model, tokenizer: Hugging Face's.
    """

    name: str
    layer: int
    model: Any
    tokenizer: Any
    _known: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path, *, layer: int = LAYER) -> "BertScore":
        """An encoder from its folder; a model of fewer layers is read at its last.

        Raises:
            HwsiError: WEIGHTS_MISSING (no encoder model there).
        """
        from transformers import AutoModel, AutoTokenizer

        try:
            model: Any = AutoModel.from_pretrained(str(folder), local_files_only=True)
            tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        except (OSError, ValueError) as error:
            what = f"{folder} holds no encoder model for BERTScore: {str(error).splitlines()[0]}"
            raise HwsiError(Reason.WEIGHTS_MISSING, what, "give the folder of a model such as PubMedBERT") from error
        return cls(folder.name, min(layer, int(model.config.num_hidden_layers)), model.eval(), tokenizer)

    def figures(self, references: Sequence[str], candidates: Sequence[str]) -> dict[str, SumFigure]:
        """The mean F1 over pairs, named by encoder and layer."""
        scores = [self.f1(r, c) for r, c in zip(references, candidates, strict=True)]
        return {f"bertscore_f1 ({self.name}, layer {self.layer})": mean_of(scores)}

    def f1(self, reference: str, candidate: str) -> float:
        """F1 of one pair, in [0, 1]."""
        theirs, ours = self._vectors(reference), self._vectors(candidate)
        if not len(theirs) or not len(ours):
            return 0.0
        cosine = (theirs @ ours.T).clamp(0, 1)
        precision, recall = float(cosine.amax(0).mean()), float(cosine.amax(1).mean())
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0

    @torch.inference_mode()
    def _vectors(self, text: str) -> Tensor:
        """Vectors (n, D) of the tokens of a text, of length one, marks left out."""
        if text not in self._known:
            words = " ".join(text.split()[:MAX_WORDS])
            most = min(512, int(getattr(self.model.config, "max_position_embeddings", 512)))
            given = self.tokenizer(
                words, return_tensors="pt", truncation=True, max_length=most, return_special_tokens_mask=True
            )
            mark = given.pop("special_tokens_mask")[0].bool()
            hidden = self.model(**given, output_hidden_states=True).hidden_states[self.layer][0]
            self._known[text] = torch.nn.functional.normalize(hidden[~mark].double(), dim=-1)
        return self._known[text]
