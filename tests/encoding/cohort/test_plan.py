"""The simulation of a cohort: what can be reckoned by hand comes out, failures cost, and equal seeds are equal."""

import numpy as np
import pytest

from hwsi.encoding.cohort.plan import make_plan
from hwsi.encoding.cohort.rates import Measured, Rates
from hwsi.encoding.cohort.simulate import Cluster, Cohort, draw_slides, simulate


def rates(device="cuda", own=(2.0, 2.0)):
    slides = tuple(Measured(10.0, 10 * s, 10_000_000, 1_000_000) for s in own)
    return Rates(
        preset="nano", precision="float32", device=device, threads=4, hwsi="0", machine="m", slides=slides,
        model_share=1.0, tissue_s_per_mm2=0.1, read_patches_per_s=1.0, read_mb_per_s=1.0, patches_per_s={},
        cells_per_s=1.0, cells_per_mm2=1.0, write_mb_per_s=1.0, load_s=1.0,
    )  # fmt: skip


def rng():
    return np.random.default_rng(0)


def test_workers_share_slides_as_lists_are_scheduled():
    # 5, 4, 3, 3 on two workers: 5 + 3 and 4 + 3
    run = simulate(np.array([5.0, 4, 3, 3]), np.ones(4), Cluster(1, 2), rng())
    assert (run.seconds, run.busy_s, run.lost_s, run.failures) == (8.0, 15.0, 0.0, 0)
    assert simulate(np.array([7.0]), np.ones(1), Cluster(3, 2), rng()).seconds == 7.0


def test_failures_cost_time_and_lose_no_slide():
    seconds = np.full(400, 600.0)
    calm = simulate(seconds, np.ones(400), Cluster(2, 2), rng())
    rough = simulate(seconds, np.ones(400), Cluster(2, 2, node_mtbf_h=2.0, repair_h=0.25), rng())
    assert rough.failures > 5
    assert rough.lost_s > 0
    # all slides were done: the work that counts is the same
    assert rough.busy_s - rough.lost_s == pytest.approx(calm.busy_s)
    # a node is gone for a ninth of the time, and each failure loses half a slide on both of its workers
    several = [
        simulate(seconds, np.ones(400), Cluster(2, 2, node_mtbf_h=2.0, repair_h=0.25), np.random.default_rng(i)).seconds
        for i in range(30)
    ]
    assert np.mean(several) == pytest.approx(calm.seconds * 9 / 8 * (1 + 300 / 7200), rel=0.05)
    again = simulate(seconds, np.ones(400), Cluster(2, 2, node_mtbf_h=2.0, repair_h=0.25), rng())
    assert again == rough


def test_areas_have_the_mean_that_was_asked_for_and_some_slides_break():
    cohort = Cohort(200_000, 100.0, 0.7, broken=0.1, hung=0.0, stragglers=0.0)
    seconds, mm2 = draw_slides(cohort, Cluster(1, 1), np.array([1.0, 3.0]), np.array([0.5, 0.5]), 1e6, rng())
    assert mm2[mm2 > 0].mean() == pytest.approx(100, rel=0.02)
    assert mm2[mm2 > 0].std() / mm2[mm2 > 0].mean() == pytest.approx(0.7, rel=0.05)
    assert (mm2 == 0).mean() == pytest.approx(0.1, rel=0.05)
    assert seconds[mm2 > 0].sum() / mm2.sum() == pytest.approx(2.0, rel=0.02)


def test_a_narrow_pipe_is_what_limits():
    cohort = Cohort(100, 10.0, 0.0, broken=0.0, hung=0.0, stragglers=0.0)
    one = np.array([1.0])
    # 10 MB a mm², 100 MB a slide; 4 workers share 20 MB/s: 20 s instead of 10
    seconds, _ = draw_slides(cohort, Cluster(2, 2, bandwidth_mb_s=20.0), one, one, 10e6, rng())
    assert seconds == pytest.approx(20.0)


def test_a_plan_of_a_calm_cohort_is_what_one_reckons():
    cohort = Cohort(1000, 10.0, 0.0, broken=0.0, hung=0.0, stragglers=0.0)
    plan = make_plan(rates(), cohort, Cluster(5, 2), runs=3)
    assert plan.hours.middle == pytest.approx(1000 * 20 / 10 / 3600)
    assert plan.ideal_hours == pytest.approx(plan.hours.middle)
    assert plan.gpu_hours.middle == pytest.approx(1000 * 20 / 3600)
    assert plan.core_hours.middle == pytest.approx(4 * plan.gpu_hours.middle)
    assert plan.written_bytes.middle == pytest.approx(1000 * 10 * 100_000)
    assert plan.read_mb_s.middle == pytest.approx(1000 * 10 / 2000)
    assert make_plan(rates("cpu"), cohort, Cluster(5, 2), runs=1).gpu_hours.high == 0


def test_few_slides_that_differ_leave_a_wide_range():
    cohort = Cohort(500, 10.0, 0.0, broken=0.0, hung=0.0, stragglers=0.0)
    sure = make_plan(rates(own=(2.0, 2.0)), cohort, Cluster(1, 1), runs=20).hours
    unsure = make_plan(rates(own=(1.0, 3.0)), cohort, Cluster(1, 1), runs=20).hours
    assert sure.high / sure.low == pytest.approx(1.0)
    assert unsure.high / unsure.low > 1.5
