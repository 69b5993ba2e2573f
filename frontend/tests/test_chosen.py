"""The brush and the slider say the same, however late a browser is."""

from chosen import LATE_SECONDS, Chosen

ALL = (0, 99)


def test_the_slider_follows_the_brush() -> None:
    """What was brushed stays chosen when a late slider says what it said before."""
    chosen = Chosen(ALL)
    chosen.brush((20, 29), ALL, 100)
    chosen.brush((40, 49), ALL, 101)
    for late in (ALL, (20, 29), (40, 49)):
        chosen.slide(late, 101 + LATE_SECONDS - 1)
        assert (chosen.ages, chosen.brushes) == ((40, 49), 0)


def test_a_slider_that_moves_takes_the_brush_off() -> None:
    """What nobody said before, or long ago, is a move: the chart is drawn anew, unbrushed."""
    chosen = Chosen(ALL)
    chosen.brush((20, 29), ALL, 100)
    chosen.slide((20, 35), 101)
    assert (chosen.ages, chosen.brushes) == ((20, 35), 1)
    chosen.brush((40, 49), (20, 35), 102)
    chosen.slide((20, 35), 102 + LATE_SECONDS)
    assert (chosen.ages, chosen.brushes) == ((20, 35), 2)


def test_choosing_takes_the_brush_off_at_once() -> None:
    """A button is no late slider, and no late slider undoes what the button did."""
    chosen = Chosen(ALL)
    chosen.slide((20, 29), 100)
    chosen.choose(ALL, (20, 29), 101)
    assert (chosen.ages, chosen.brushes) == (ALL, 2)
    chosen.slide((20, 29), 102)
    assert (chosen.ages, chosen.brushes) == (ALL, 2)
    chosen.slide((20, 35), 103)
    assert (chosen.ages, chosen.brushes) == ((20, 35), 3)
