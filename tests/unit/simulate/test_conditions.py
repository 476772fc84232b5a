"""What `--fail-on` understands, and when it fires."""

import pytest

from gateway.core.errors import BadRequest
from gateway.simulate.conditions import METRICS, judge, parse
from gateway.simulate.statistics import Estimate


def test_several_conditions_are_read_with_their_limits_as_fractions():
    cost, quality = parse("cost>+5%, quality<-1.5%")
    assert (cost.metric, cost.side, cost.limit) == ("cost", ">", 0.05)
    assert (quality.metric, quality.side, quality.limit) == ("quality", "<", -0.015)


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_can_be_asked_for(metric):
    assert parse(f"{metric}>2%")[0].metric == metric


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cost", "'cost' is no condition"),
        ("cost>5", "'cost>5' is no condition"),
        ("cost>=5%", "is no condition"),
        ("cost>+-5%", "is no condition"),
        ("cost>5%%", "is no condition"),
        ("cost>1e3%", "is no condition"),
        ("cost>5%,", "'' is no condition"),
        ("cost>5%;quality<-1%", "is no condition"),
        ("price>5%", "'price' is not measured; fix: one of cost, quality"),
        ("cost>5%,cost>6%", "cost> is given twice"),
        ("undecided<-1%", "a share is never below 0"),
        ("Cost>5%", "is no condition"),
    ],
)
def test_what_is_not_a_condition_is_refused_with_the_part_that_is_wrong(text, said):
    with pytest.raises(BadRequest) as refused:
        parse(text)
    assert said in refused.value.message


@pytest.mark.parametrize(
    ("text", "value", "status"),
    [
        ("cost>+5%", 0.0501, "fires"),
        ("cost>+5%", 0.05, "holds"),
        ("cost>+5%", -0.2, "holds"),
        ("cost<-5%", -0.06, "fires"),
        ("quality<-1%", -0.011, "fires"),
        ("quality<-1%", 0.0, "holds"),
    ],
)
def test_a_condition_fires_beyond_its_limit(text, value, status):
    verdict = judge(parse(text)[0], Estimate(value, value, value, 100))
    assert (verdict.status, verdict.failed) == (status, status == "fires")


def test_what_is_unknown_fails():
    verdict = judge(parse("quality<-1%")[0], None)
    assert verdict.status == "unknown"
    assert verdict.failed


def test_an_interval_that_reaches_the_limit_is_told():
    condition = parse("cost>+5%")[0]
    assert judge(condition, Estimate(0.03, -0.01, 0.07, 50)).unsure
    assert not judge(condition, Estimate(0.03, 0.02, 0.04, 50)).unsure
    assert judge(condition, Estimate(0.03, None, None, 1)).unsure
