"""The specifications that the browser draws from."""

from ages import histogram
from charts import SHARE_AXIS, histogram_chart


def test_no_two_labels_of_the_percent_axis_are_the_same() -> None:
    """Ticks are at least as far apart as the format tells apart, and no whole number has zeros."""
    step = SHARE_AXIS["tickMinStep"]
    assert SHARE_AXIS["format"] == ".1~%"  # in d3 as in Python, but for `~`, which cuts zeros
    labels = [f"{number * float(step):.1%}" for number in range(1001)]
    assert len(set(labels)) == len(labels)
    spec = histogram_chart(histogram({30: 1}, 5), None, percent=True, chosen=(0, 99), last_age=99)
    assert spec["layer"][0]["encoding"]["y"]["axis"] == SHARE_AXIS
