"""Pools and operators as they are rendered, whole, named after what they show; READMEs take their examples from them."""

from __future__ import annotations

import pytest

import chart


@pytest.mark.parametrize("values", chart.VALUES, ids=lambda path: path.stem)
def test_renders_as_recorded(values: chart.Path, request: pytest.FixtureRequest) -> None:
    golden = chart.HERE / "golden" / values.name
    found = chart.text(values)
    if request.config.getoption("--golden-update"):
        golden.write_text(found)
    assert found == golden.read_text(), "if this change is wanted: make golden"


def test_no_golden_is_left_over() -> None:
    assert {path.name for path in (chart.HERE / "golden").iterdir()} == {path.name for path in chart.VALUES}


@pytest.mark.parametrize("values", chart.VALUES, ids=lambda path: path.stem)
def test_every_example_is_in_the_readme_word_for_word(values: chart.Path) -> None:
    readme = (chart.OPERATOR if values in chart.OF_OPERATOR else chart.CHART) / "README.md"
    if not values.stem.endswith("everything-on"):
        assert f"```yaml\n{values.read_text()}```" in readme.read_text()


@pytest.mark.parametrize("values", chart.VALUES, ids=lambda path: path.stem)
def test_rendering_again_gives_the_same(values: chart.Path) -> None:
    before = chart.text(values)
    chart.template.cache_clear()
    assert chart.text(values) == before
