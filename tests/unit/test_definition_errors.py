"""What is declared wrongly is said with file, line, attribute and remedy."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pipelines
import pytest
from retrodict.errors import PipelineDefinitionError
from retrodict.pipeline import load_pipelines

CONTRACT = """
from retrodict.contracts import Event, Key, field

class Order(Event, type="shop.order", version=1):
    store: Key[str] = field(pattern=r"[a-z]+")
    amount: float = field(unit="EUR")
"""

FEATURES = """
from pipelines.wrong.contract import Order
from retrodict.features import features
from retrodict.vocabulary import *
from retrodict.vocabulary import last

@features(Order, lateness="10m", max_rate="{rate}")
class Store:
    usual = {usual}
"""

Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Return what writes a pipeline called `wrong`, the only one there is."""
    folder = tmp_path / "wrong"

    def written(usual: str, rate: str = "1/s", contract: str = CONTRACT) -> None:
        folder.mkdir()
        (folder / "contract.py").write_text(contract)
        (folder / "features.py").write_text(FEATURES.format(usual=usual, rate=rate))
        (folder / "__init__.py").write_text(
            "from pipelines.wrong.features import Store\n"
            "from retrodict.pipeline import Pipeline\n"
            "pipeline = Pipeline('wrong', features=[Store])\n"
        )

    monkeypatch.setattr(pipelines, "__path__", [str(tmp_path)])
    load_pipelines.cache_clear()
    yield written
    monkeypatch.undo()
    load_pipelines.cache_clear()
    for name in [n for n in sys.modules if n.startswith("pipelines.wrong")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("usual", "told"),
    [
        (
            "mean(Order.amont, last(3))",
            "has no field 'amont'; it has ['store', 'amount']",
        ),
        ("mean(Order.store, last(3))", "needs a number field"),
        ("mean(Order.amount, last('0s'))", "0s"),
        ("mean(Order.amount, last('7d', every='5h'))", "a pane must divide its window"),
        ("Order.amount + float('nan')", "finite number"),
    ],
)
def test_a_feature_that_means_nothing_is_told_with_its_place(
    write: Write, usual: str, told: str
) -> None:
    write(usual)

    with pytest.raises(PipelineDefinitionError) as caught:
        load_pipelines()

    assert str(caught.value).startswith("wrong/features.py, line 9, usual: ")
    assert told in str(caught.value)


def test_an_event_without_a_key_is_told_with_its_place(write: Write) -> None:
    write("mean(Order.amount, last(3))", contract=CONTRACT.replace("Key[str]", "str"))

    with pytest.raises(PipelineDefinitionError) as caught:
        load_pipelines()

    assert str(caught.value).startswith("wrong/contract.py, line 4: ")
    assert "exactly one Key field" in str(caught.value)


def test_a_state_that_cannot_fit_is_told_with_its_place(write: Write) -> None:
    write("mean(Order.amount, last('7d'))", rate="100/s")

    with pytest.raises(PipelineDefinitionError) as caught:
        load_pipelines()

    assert str(caught.value).startswith("wrong/features.py, line 7: ")
    assert "but a DynamoDB item holds" in str(caught.value)


def test_an_attribute_error_of_something_else_stays_one(write: Write) -> None:
    write("None.nothing")

    with pytest.raises(AttributeError, match="nothing"):
        load_pipelines()
