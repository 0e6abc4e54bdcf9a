"""Questions that cite a region by its place (``{R:row,col}``, as the phantom's do), in the labels of the slide's tree.

- Labels are those that the model's session gives: they count the regions that it reads. They are read from the feature
  file of the record's own slide, also where the question is put to another one.
"""

from hwsi.benchmarks.datasets.record import Record
from hwsi.benchmarks.running.plan import Plan
from hwsi.errors import HwsiError
from hwsi.features import read_features
from hwsi.hierarchy.labels import region_label
from hwsi.inference.key_regions import key_regions
from hwsi.phantom.truth import cited, fill_labels


class Labels:
    """Labels of regions by their place.

    Args:
        plan: whose slides. encoder: id of the region encoder by which a large slide is cut down.
    """

    def __init__(self, plan: Plan, encoder: str) -> None:
        self._file = {r.slide_id: case.files[0] for case in plan.cases for r in case.records}
        self._encoder = encoder
        self._known: dict[str, dict[tuple[int, int], str]] = {}

    def at(self, slide_id: str, row: int, col: int) -> str | None:
        """Label of a region of a slide; None if it has no tissue."""
        if slide_id not in self._known:
            self._known[slide_id] = self._read(slide_id)
        return self._known[slide_id].get((row, col))

    def _read(self, slide_id: str) -> dict[tuple[int, int], str]:
        try:
            features = key_regions(read_features(self._file[slide_id]), self._encoder)
        except HwsiError:  # told where the slide's own turn comes; here it has no labels
            return {}
        return {(r, c): region_label(i) for i, (r, c) in enumerate(features.hierarchy.regions.grid.tolist())}

    def question(self, record: Record) -> str | None:
        """A record's question with labels; None if it is about a region that was not found."""
        if any(self.at(record.slide_id, *place) is None for place in cited(record.question)):
            return None
        return self.fill(record, record.question)

    def fill(self, record: Record, text: str) -> str:
        """A text about a record's slide with labels."""
        return fill_labels(text, lambda row, col: self.at(record.slide_id, row, col))
