"""Units in types: a number says what it counts.

- ``Px0``: pixels of the slide's full resolution (level 0). All coordinates that leave a room are these.
- ``Px``: pixels of an image that was read at some asked resolution.
- ``Um`` and ``Mm``: micrometres and millimetres on the glass.
- ``Mpp``: micrometres per pixel of some image.
"""

from typing import NewType

Px0 = NewType("Px0", int)
Px = NewType("Px", int)
Um = NewType("Um", float)
Mm = NewType("Mm", float)
Mpp = NewType("Mpp", float)
