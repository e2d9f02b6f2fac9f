"""What reads the pixels of a picture strip by strip keeps no strip."""

import tracemalloc

import numpy as np

from bevfusion.maps.classes import PixelKind, classifier
from bevfusion.maps.legend import Legend
from bevfusion.summary import InputSummary


def test_pixels_that_no_class_fits_are_counted_in_little_memory() -> None:
    strip = np.full((200, 1000, 3), 255, np.uint8)
    strip[:20] = 120
    reader = classifier(Legend({}, {(120, 120, 120): "road"}), PixelKind(3, strip.dtype, colour=True))
    seen = np.ones(strip.shape, bool)
    tracemalloc.start()
    try:
        shown = sum(int(np.count_nonzero(reader.classify(strip, seen))) for _ in range(20))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert shown == 20 * 20 * 1000
    assert held < 5_000_000  # the strips themselves, as codes, are 29 MB
    summary = InputSummary("town.tif")
    reader.tell(summary)
    (note,) = summary.of_kind("ignored")
    assert (note.count, note.total) == (20 * 180 * 1000, 20 * 200 * 1000)
