"""RubberBand's planner on random clusters, and its policy."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from seer_nb import simulate
from seer_nb.core import Scaling
from seer_nb.core.planner import Resources
from seer_nb.policies import RubberBand
from seer_nb.policies._profile import bracket_stages
from seer_nb.policies.rubberband import cheapest_elastic_plan, cheapest_static_plan
from tests.support.curve_tables import table
from tests.support.effort import examples


def resources(**changes):
    """Return resources with epochs of 60 s, at 1000 micro-dollars per worker second."""
    given_ = {
        "time_left_s": 3000.0,
        "money_micro": 10**9,
        "epoch_s": 60.0,
        "scaling": Scaling(overhead=0.15, stall_s=1.0, boot_s=0.0),
        "price_micro_per_s": 1000.0,
        "lease_s": 30.0,
        "minimum_s": 0.0,
        "workers_per_machine": 1,
        "max_workers": 512,
        "max_parallelism": 512,
    }
    return Resources(**{**given_, **changes})


clusters = st.builds(
    resources,
    time_left_s=st.floats(100, 5000),
    epoch_s=st.floats(1, 100),
    scaling=st.builds(
        Scaling, overhead=st.floats(0, 0.5), stall_s=st.floats(0, 10), boot_s=st.sampled_from([0.0, 30.0, 120.0])
    ),
    minimum_s=st.sampled_from([0.0, 60.0]),
    workers_per_machine=st.sampled_from([1, 4]),
    max_workers=st.sampled_from([4, 16, 64]),
).map(lambda r: r._replace(max_parallelism=r.max_workers))
brackets = st.builds(
    bracket_stages,
    st.integers(1, 64),
    st.sampled_from([2, 3, 4]),
    st.sampled_from([(1, 3, 9), (1, 4, 16), (2, 8), (5,)]),
)


@examples(150)
@given(brackets, clusters)
def test_elastic_plan_never_costs_more_than_the_cheapest_static_cluster(job, r):
    static, elastic = cheapest_static_plan(job, r), cheapest_elastic_plan(job, r)
    assert (static is None) or elastic is not None
    if static is not None:
        assert elastic.cost_micro <= static.cost_micro * (1 + 1e-9)


@examples(150)
@given(brackets, clusters)
def test_elastic_plan_keeps_the_deadline(job, r):
    plan = cheapest_elastic_plan(job, r)
    assume(plan is not None)
    assert plan.duration_s <= r.time_left_s + 1e-6
    assert plan.duration_s == pytest.approx(sum(stage.duration_s for stage in plan.stages))
    assert plan.cost_micro == pytest.approx(sum(stage.cost_micro for stage in plan.stages))


@examples(150)
@given(brackets, clusters, st.floats(1, 3))
def test_a_later_deadline_never_costs_more(job, r, later):
    plan = cheapest_elastic_plan(job, r)
    assume(plan is not None)
    assert (
        cheapest_elastic_plan(job, r._replace(time_left_s=later * r.time_left_s)).cost_micro <= plan.cost_micro + 1e-6
    )


@examples(60)
@given(st.integers(1, 64), clusters)
def test_elastic_plan_of_one_stage_is_static(n, r):
    job = bracket_stages(n, 3, (5,))
    static, elastic = cheapest_static_plan(job, r), cheapest_elastic_plan(job, r)
    assert (static is None) == (elastic is None)
    if static is not None:
        assert elastic.cost_micro == pytest.approx(static.cost_micro)


def test_elastic_plan_halves_the_cost_somewhere():
    """The gain is large where a late stage of few trials would leave a wide cluster idle."""
    job = bracket_stages(64, 4, (1, 4, 16, 50))
    shares = []
    for seconds in (600.0, 1000.0, 2000.0, 3000.0):
        r = resources(time_left_s=seconds)
        shares.append(cheapest_elastic_plan(job, r).cost_micro / cheapest_static_plan(job, r).cost_micro)
    assert min(shares) <= 0.5
    assert max(shares) <= 1.0


def run(policy=None, **changes):
    given_ = {"deadline": 600, "budget": 3.0, "epoch_seconds": 10.0, "offer": simulate.Offer(price_per_hour=3.6)}
    return simulate.run(table(rows=300, epochs=27), policy or RubberBand(), **{**given_, **changes})


def test_parallelism_grows_and_cluster_shrinks_with_the_stages():
    found = run()
    assert not found.violated
    assert max(len(t.curve) for t in found.state.trials.values()) == 27
    sizes = [{r.parallelism for r in t.curve} for t in found.state.trials.values()]
    assert {1} in sizes
    lived = sorted((x.ended_s or 0) - x.rented_s for x in found.state.machines.values())
    assert lived[0] < lived[-1] / 2


def test_bracket_of_a_given_size():
    found = run(RubberBand(eta=3, n=27), deadline=1000, budget=10.0)
    assert sorted(len(t.curve) for t in found.state.trials.values()) == [1] * 18 + [3] * 6 + [9] * 2 + [27]


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="eta=1: too small; expected an integer >= 2"):
        RubberBand(eta=1)
