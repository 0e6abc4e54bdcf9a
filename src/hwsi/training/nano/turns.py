"""A question and its answer as the processor reads them."""

Dialogue = list[dict[str, str]]


def turns(question: str, answer: str) -> Dialogue:
    """One turn of each side."""
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
