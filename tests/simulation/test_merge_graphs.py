"""Any graph of aliases ends in one customer who has everything, in whatever order the workers come to it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.simulation.merge_world import IDS, MergeWorld, components, ids, pairs, steps

thorough = settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

GRAPHS = {
    "two name each other": ["ab", "ba"],
    "a ring of three": ["ab", "bc", "ca"],
    "a ring of three, the other way": ["ac", "cb", "ba"],
    "a chain": ["ab", "bc"],
    "a chain from its end": ["bc", "ab"],
    "one named by two": ["ac", "bc"],
    "two named by one": ["ab", "ac"],
    "a ring and its chord": ["ab", "bc", "ca", "ac"],
}


@pytest.mark.parametrize("edges", GRAPHS.values(), ids=GRAPHS)
def test_a_small_graph_ends_in_one_customer_in_every_order_of_steps(edges: list[str]) -> None:
    """All interleavings and crashes, exhaustively; every id has a partition of its own and something to hand over."""
    start = MergeWorld()
    for customer in "abc":
        start.fact(customer)
    start.settle()
    for known, previous in edges:
        start.alias(known, previous)
    start.stop_the_clock()
    concerned = sorted({one for edge in edges for one in edge})
    met, ends = {start.fingerprint()}, 0
    waiting = [start]
    while waiting:
        world = waiting.pop()
        # Crashes multiply the worlds; a ring of three with a chord has some 2,000 without them.
        may_crash = world.steps() if len(edges) < 4 else []
        crashes = [("crash", partition) for what, partition in may_crash if what == "publish"]
        for step in [*world.steps(), *crashes]:
            branch = world.copy()
            branch.take(*step)
            if (found := branch.fingerprint()) not in met:
                met.add(found)
                waiting.append(branch)
        if not world.steps():
            ends += 1
            assert len({world.root(one) for one in concerned}) == 1
            assert sorted(world.kept(concerned[0])) == world.told_of(concerned)
            assert world.refused() == []
    assert ends >= 1
    assert len(met) > 10


def told(world: MergeWorld, story: list[tuple]) -> list[tuple[str, str]]:
    """Tell a story of facts, aliases and steps; return the pairs that were named."""
    edges = []
    for what, *rest in story:
        match what:
            case "fact":
                world.fact(rest[0])
            case "alias":
                world.alias(*rest)
                edges.append(tuple(rest))
            case "erase":
                world.erase(rest[0])
            case _:
                world.take(what, *rest)
    return edges


def stories(*more: st.SearchStrategy) -> st.SearchStrategy[list[tuple]]:
    aliases = pairs.map(lambda pair: ("alias", *pair))
    facts = ids.map(lambda one: ("fact", one))
    return st.lists(st.one_of(aliases, facts, steps, steps, steps, *more), max_size=40)


def ends_in_one(story, partitions):
    world = MergeWorld(partitions)
    edges = told(world, [one for one in story if one[0] in {"fact", "alias"} or one[1] < partitions])
    world.settle()
    assert_united(world, edges)
    assert world.refused() == []


def leaves_no_ring(story):
    """What happened to an id before its own erasure is gone; whoever is named or seen afterwards is found."""
    world = MergeWorld()
    erased_facts: set[int] = set()
    for entry in story:
        if entry[0] == "erase":
            erased_facts |= set(world.facts.pop(entry[1], ()))
        told(world, [entry])
    world.settle()
    for one in IDS:
        assert not erased_facts & set(world.kept(one)), one
    later = {one: world.fact(one) for one in IDS}
    world.settle()
    assert all(later[one] in world.kept(one) for one in IDS)
    for one, other in itertools.pairwise(IDS):
        world.alias(one, other)
    world.settle()
    assert len({world.root(one) for one in IDS}) == 1
    assert set(later.values()) <= set(world.kept(IDS[0]))


def reaches_all(story, erased):
    world = MergeWorld()
    edges = told(world, story)
    world.settle()
    before = {one: world.kept(one) for one in IDS}
    world.erase(erased)
    world.settle()
    gone = next((one for one in components(edges) if erased in one), {erased})
    for one in IDS:
        state = world.states.get(one)
        if one in gone:
            assert state is not None
            assert (state.first_seen_ms, state.merged_into, state.aliases, state.asked) == (0, "", [], [])
            assert state.erased_at_ms
        else:
            assert world.kept(one) == before[one]
            assert state is None or not state.erased_at_ms


def takes_nobody_over(story):
    """``a`` and ``b`` are known; whatever a write key says of them, they stay who they are and keep what is theirs."""
    world = MergeWorld()
    world.identify("a")
    world.identify("b")
    world.settle()
    asked = []
    for what, *rest in story:
        match what:
            case "alias":
                world.alias(rest[0], rest[1], granted=rest[2])
                asked.append(rest[:2])
            case "identify":
                world.identify(*rest)
                asked.append(rest)
            case "fact":
                world.fact(rest[0])
            case _:
                world.take(what, *rest)
    world.settle()
    assert (world.root("a"), world.root("b")) == ("a", "b")
    assert not set(world.facts["a"]) - set(world.kept("a")) and not set(world.facts["b"]) - set(world.kept("b"))
    assert not set(world.facts["a"]) & set(world.kept("b")) and not set(world.facts["b"]) & set(world.kept("a"))
    assert sorted(moment for one in {world.root(one) for one in IDS} for moment in world.kept(one)) == world.told_of(
        IDS
    )
    for one, other in asked:
        lines = [line for line in world.refused("known") if line.customer_id == world.root(one)]
        assert world.root(one) == world.root(other) or lines, (one, other)


@thorough
@given(story=stories(), partitions=st.integers(1, 4))
def test_any_graph_ends_in_one_customer_who_has_everything_once(story, partitions):
    ends_in_one(story, partitions)


def assert_united(world: MergeWorld, edges: list[tuple[str, str]]) -> None:
    united = components([*edges, *((one, one) for one in IDS)])
    for component in united:
        assert len({world.root(one) for one in component}) == 1, component
        survivor = world.root(next(iter(component)))
        assert sorted(world.kept(survivor)) == world.told_of(component), component


@pytest.mark.parametrize("size", range(2, 7))
@pytest.mark.parametrize("settles", [True, False], ids=["one after another", "all at once"])
def test_a_ring_of_any_size_has_one_survivor_and_later_events_reach_them(size: int, settles: bool) -> None:
    world, ring = MergeWorld(), IDS[:size]
    for one, other in itertools.pairwise([*ring, ring[0]]):
        world.fact(one)
        world.alias(one, other)
        if settles:
            world.settle()
    world.settle()
    assert_united(world, [(ring[0], one) for one in ring])
    for one in ring:
        world.fact(one)
    world.settle()
    assert_united(world, [(ring[0], one) for one in ring])


@thorough
@given(story=stories(ids.map(lambda one: ("erase", one))))
def test_an_erasure_in_the_middle_leaves_no_ring_and_nothing_of_before(story):
    leaves_no_ring(story)


@thorough
@given(story=stories(), erased=ids)
def test_an_erasure_at_rest_reaches_every_id_of_the_customer_and_no_other(story, erased):
    reaches_all(story, erased)


HOSTILE = st.one_of(
    pairs.map(lambda pair: ("alias", *pair, False)),
    pairs.map(lambda pair: ("identify", *pair)),
    ids.map(lambda one: ("fact", one)),
    steps,
    steps,
)


@thorough
@given(story=st.lists(HOSTILE, max_size=40))
def test_nobody_who_is_known_is_taken_over_by_who_may_not_and_no_request_is_silent(story):
    takes_nobody_over(story)
