"""Where pictures come from: photographs, frame sequences or ready-made pairs, found in name order.

    source.open(data) -> Footage     paths and digests only; `footage.clips[i].read()` reads the pictures of one clip

A source's fields are the keys of `source:` in a recipe. What is found but not used is counted by kind (`Footage.skipped`);
only hidden files are ignored without a word. `walk` says which files are found, `sides` which of them are sharp,
`numbering` which frames follow each other.
"""

from typing import Annotated

from pydantic import Field

from blursynth.sources.clips import Clip, Footage, Pictures
from blursynth.sources.frames import Frames
from blursynth.sources.pairs import LAYOUTS, Pairs
from blursynth.sources.photos import BUILT_IN, Photos

Source = Annotated[Photos | Frames | Pairs, Field(discriminator="use")]

__all__ = ["BUILT_IN", "LAYOUTS", "Clip", "Footage", "Frames", "Pairs", "Photos", "Pictures", "Source"]
