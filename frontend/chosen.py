"""Which ages are chosen, where a brush on the chart and a slider beside it say it both."""

from dataclasses import dataclass, field

LATE_SECONDS = 10  # that a browser may take to see its slider follow the brush

Ages = tuple[int, int]


def in_order(ages: Ages) -> Ages:
    """Return what a slider says, the younger first; an address may have turned the two."""
    return min(ages), max(ages)


@dataclass(slots=True)
class Chosen:
    """The first and the last of the chosen ages, by whichever of the two was moved last.

    `brushes` counts the brushes that were taken off: the chart is drawn anew under each number.
    """

    ages: Ages
    brushes: int = 0
    _left_at: dict[Ages, float] = field(default_factory=dict)  # what a late slider still says

    def brush(self, ages: Ages, slider: Ages, now: float) -> None:
        """Choose what was brushed while the slider said something else, which is to follow."""
        self._left_at[slider] = self._left_at[self.ages] = now
        self.ages = ages

    def slide(self, ages: Ages, now: float) -> None:
        """Choose what the slider says, and take the brush off the chart.

        A tick that was sent before the browser saw the slider follow the brush says what the slider
        said before. That is no move of it.
        """
        late = now - self._left_at.get(ages, float("-inf")) < LATE_SECONDS
        if ages != self.ages and not late:
            self.ages, self.brushes, self._left_at = ages, self.brushes + 1, {}

    def choose(self, ages: Ages, slider: Ages, now: float) -> None:
        """Choose these ages by a button, and take the brush off the chart; the slider follows."""
        self.brush(ages, slider, now)
        self.brushes += 1
