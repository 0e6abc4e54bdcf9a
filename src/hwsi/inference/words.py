"""Numbers of an answer in words that a person understands."""

import math


def reliance_words(nats: float) -> str:
    """What ``visual_reliance`` (nats per token) says about looking."""
    factor = math.exp(min(abs(nats), 12.0))
    times = f"{factor:,.0f}" if factor >= 10 else f"{factor:.1f}"
    if nats < -0.05:
        return "against the slide: these words were likelier without it"
    if nats < 0.05:
        return "none: the same words would come without the slide"
    if nats < 0.5:
        return f"weak: each word is {times} times as likely with the slide as without it"
    if nats < 1.5:
        return f"clear: each word is {times} times as likely with the slide as without it"
    return f"strong: each word is {times} times as likely with the slide as without it"


def confidence_words(confidence: float, n_choices: int) -> str:
    """What ``confidence`` says; ``n_choices`` is 0 for an open question."""
    percent = f"{100 * confidence:.0f} %"
    if n_choices:
        return f"{percent} of the belief goes to this option out of {n_choices}"
    return f"{percent} mean probability of each word"


def size_words(um: float) -> str:
    """A length on the glass in a unit that reads well."""
    return f"{um / 1000:.3g} mm" if um >= 1000 else f"{um:.3g} µm"
