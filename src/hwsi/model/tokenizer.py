"""The embedded model's own tokenizer: byte-level BPE over a small closed vocabulary.

- Any UTF-8 text encodes and decodes back to itself: bytes are the floor, so a user's unknown word is never
  lost.
- Digits stand alone (numbers read the same wherever they occur); words of the training texts become one
  token.
- The labels R1..R64 and P1..P64 are one token each, but only as words of their own ("HER2" keeps its
  letters); they are ordinary text, which a user may type.
- Role marks and placeholders are special tokens, which a user may not (see ``processor.py``).
"""

# mypy: disable-error-code="no-untyped-call"
# (much of transformers is not annotated)

from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from hwsi.model.config import PLACEHOLDERS, SCALES

PAD, END, SYSTEM, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"
LABELS = tuple(f"{kind}{i}" for kind in "RP" for i in range(1, 65))

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "<|assistant|>{% generation %}{{ message['content'] }}<|end|>{% endgeneration %}"
    "{%- else -%}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
)


def train_nano_tokenizer(
    texts: Iterable[str], *, vocab_size: int = 1400, max_tokens: int = 4096
) -> PreTrainedTokenizerFast:
    """Learn the tokenizer from the texts that the model will be trained on.

    Args:
        texts: everything that is asked, answered and reported.
        vocab_size: at most so many entries without the 128 labels; fewer when the texts need fewer.
        max_tokens: the longest sequence that the model reads.

    Returns:
        A tokenizer with chat template, ``pad_token`` and ``eos_token``; the same texts give the same one.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [PAD, END, SYSTEM, USER, ASSISTANT, *(PLACEHOLDERS[scale] for scale in SCALES)]
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            special_tokens=special,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    tokenizer.add_tokens([AddedToken(label, single_word=True, normalized=False) for label in LABELS])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        model_max_length=max_tokens,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast
