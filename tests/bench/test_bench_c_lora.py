"""bench.c_lora: its candidates share what does not differ, and the chart shows one point per weight."""

import argparse
from xml.etree import ElementTree

from bench.c_lora import Result, candidates, chart, family_name


def test_sequences_that_differ_only_in_the_weight_share_their_name() -> None:
    args = argparse.Namespace(tries=["rank=8"], weights=[0.0, 1.0])
    tried = candidates(args)
    assert [changed["forgetting_weight"] for changed in tried.values()] == [0.0, 1.0]
    assert {family_name("Quick", changed) for changed in tried.values()} == {"Quick rank=8"}
    assert list(candidates(argparse.Namespace(tries=[], weights=[]))) == ["as shipped"]


def test_the_chart_has_a_point_for_each_weight() -> None:
    def result(plasticity: float, kept: float) -> Result:
        return Result(plasticity=plasticity, kept=kept, dino_learned=0.5, dino_kept=0.5, seconds=1.0)

    drawn = ElementTree.fromstring(chart({"0": result(1.0, 0.0), "1": result(0.5, 1.0)}))
    circles = [child for child in drawn if child.tag.endswith("circle")]
    first, second = ((float(one.get("cx", 0)), float(one.get("cy", 0))) for one in circles)
    assert first[0] > second[0], "more plastic is further right"
    assert first[1] > second[1], "what is kept is higher up"
