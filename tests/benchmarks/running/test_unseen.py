"""The model without a slide says what it would say to the same words with nothing between them."""

import torch
from running_world import slide

from hwsi.benchmarks.running.unseen import WithoutSlide
from hwsi.inference import Session


def test_words_without_a_slide_are_those_of_the_plain_prompt(untrained):
    model, processor, _ = untrained
    reader = WithoutSlide(model, processor)
    said = reader.say("What is the grade?", ("grade 1", "grade 2"), max_new_tokens=6)
    inputs = processor("What is the grade?", choices=("grade 1", "grade 2"))
    made = model.generate(**inputs, max_new_tokens=6, do_sample=False)
    assert said == processor.decode(made[0, inputs["input_ids"].shape[1] :])


def test_a_slide_changes_the_words(untrained):
    model, processor, sha = untrained
    reader = WithoutSlide(model, processor)
    with torch.inference_mode():
        seen = [Session(model, processor, slide("s", k), weights_sha256=sha) for k in range(3)]
    words = [s.ask("What is seen?", evidence=False, max_new_tokens=8).text for s in seen]
    assert any(reader.say("What is seen?", max_new_tokens=8) != w for w in words)


def test_a_model_whose_slide_stands_before_all_words_is_asked_without_it(tiny_release):
    model, processor = tiny_release
    reader = WithoutSlide(model, processor)
    first = reader.say("What is the diagnosis?", max_new_tokens=5)
    assert first == reader.say("What is the diagnosis?", max_new_tokens=5)
