"""A made-up world, a model of stage ``align`` and the two stages after it, trained for a few steps."""

import pytest
from stage_fakes import config_of, make_world, tiny_model, write_former


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def aligned(tmp_path_factory):
    return write_former(tmp_path_factory.mktemp("stages") / "align", "align", *tiny_model())


@pytest.fixture(scope="session")
def projected(world, aligned, tmp_path_factory):
    from hwsi.training.stages.project import run_project

    out = tmp_path_factory.mktemp("stages") / "project"
    run_project(config_of("project", world, aligned), out)
    return out


@pytest.fixture(scope="session")
def instructed(world, projected, tmp_path_factory):
    from hwsi.training.stages.instruct import run_instruct

    out = tmp_path_factory.mktemp("stages") / "instruct"
    run_instruct(config_of("instruct", world, projected, steps=6), out)
    return out
