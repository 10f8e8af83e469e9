"""Each word of the vocabulary says its unit, where it comes from, and an example."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from pipelines.sensor_anomaly.contract import Reading
from retrodict import vocabulary
from retrodict.expressions import Expression
from retrodict.vocabulary import last

NOT_WORDS = {"last", "statistic", "spread"}
"""What a window is, what makes words of functions, and a function made a word."""

BUILT: dict[str, Expression] = {
    "category": vocabulary.category(Reading.site, ["north"]),
    "day_of_week": vocabulary.day_of_week(),
    "decayed_mean": vocabulary.decayed_mean(Reading.value, last(3), half_life="1m"),
    "decayed_std": vocabulary.decayed_std(Reading.value, last(3), half_life="1m"),
    "difference": vocabulary.difference(Reading.value),
    "elapsed": vocabulary.elapsed(),
    "hour_of_day": vocabulary.hour_of_day(),
    "quantile": vocabulary.quantile(Reading.value, 0.5, last(3)),
    "rate": vocabulary.rate(Reading.value, last("10m")),
    "ratio": vocabulary.ratio(Reading.value),
    "same_hour_mean": vocabulary.same_hour_mean(Reading.value, days=7),
    "same_hour_of_week_mean": vocabulary.same_hour_of_week_mean(Reading.value, 4),
    "same_hour_of_week_std": vocabulary.same_hour_of_week_std(Reading.value, 4),
    "same_hour_std": vocabulary.same_hour_std(Reading.value, days=7),
    "share": vocabulary.share(Reading.value > 30, last(3)),
}
"""Words that take more than a field and a window."""


def words() -> dict[str, Callable[..., Expression]]:
    return {
        name: found
        for name, found in vars(vocabulary).items()
        if inspect.isfunction(found)
        and found.__module__ == vocabulary.__name__
        and not name.startswith("_")
        and name not in NOT_WORDS
    }


@pytest.mark.parametrize("name", sorted(words()))
def test_a_word_says_its_unit_its_source_and_an_example(name: str) -> None:
    word = words()[name]
    doc = inspect.getdoc(word) or ""
    heads = ["Returns\n-------", "References\n----------", "Examples\n--------\n>>>"]
    assert all(head in doc for head in heads)
    built: Any = BUILT[name] if name in BUILT else word(Reading.value, last(3))
    told = doc.partition(heads[0])[2].partition("\n\n")[0]
    field: Any = Reading.value
    if built.unit == field.unit:
        assert "unit of `field`" in told
    else:
        assert f"``{built.unit}``" in told


def test_every_word_is_looked_at() -> None:
    assert words().keys() >= BUILT.keys()
    assert len(words()) > 20
