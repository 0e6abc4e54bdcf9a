"""Where Transformers finds the embeddings and the head of ``{model: {visual, language_model}, lm_head}``."""

# mypy: disable-error-code="no-untyped-call"
# (much of transformers is not annotated)

from typing import Any, cast

from torch import nn


class InnerEmbeddings:
    """Of a model that holds a language model without its head."""

    language_model: Any

    def get_input_embeddings(self) -> nn.Module:
        """The language model's."""
        return cast(nn.Module, self.language_model.get_input_embeddings())

    def set_input_embeddings(self, value: nn.Module) -> None:
        """The language model's."""
        self.language_model.set_input_embeddings(value)


class Head:
    """Of the model around it, which has the head."""

    model: Any
    lm_head: nn.Linear

    def get_input_embeddings(self) -> nn.Module:
        """The language model's."""
        return cast(nn.Module, self.model.get_input_embeddings())

    def set_input_embeddings(self, value: nn.Module) -> None:
        """The language model's."""
        self.model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """The head."""
        return self.lm_head

    def set_output_embeddings(self, value: nn.Linear) -> None:
        """The head."""
        self.lm_head = value
