"""The four spaces an image can be in.

| space    | tensor    | meaning                                                                            |
|----------|-----------|------------------------------------------------------------------------------------|
| `srgb`   | `b 3 h w` | display-encoded, [0, 1]                                                            |
| `linear` | `b 3 h w` | scene-linear, sRGB primaries, white-balanced                                       |
| `sensor` | `b 3 h w` | linear camera RGB at every photosite, black 0, saturation 1, not white-balanced    |
| `bayer`  | `b 1 h w` | `sensor` seen through the colour filter array                                      |

Light adds up in `sensor`, so blur happens there. Photons are counted and clipped in `bayer`, so noise happens there.
"""

from typing import Literal, get_args

Space = Literal["srgb", "linear", "sensor", "bayer"]
SPACES: tuple[Space, ...] = get_args(Space)
