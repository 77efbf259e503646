"""Numbers that outlive a restart, and so come back from a file that anybody may have edited.

What learns keeps a `msgspec.Struct` of these; msgspec refuses all that does not
fit, NaN included, with the path of what is wrong.
"""

from typing import Annotated

from msgspec import Meta

Amount = Annotated[float, Meta(ge=0.0, le=1e12)]
"""A sum or a weight of what was seen."""

Count = Annotated[int, Meta(ge=0, le=2**53)]

Name = Annotated[str, Meta(max_length=4096)]
