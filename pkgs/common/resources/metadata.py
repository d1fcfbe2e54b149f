"""The envelope that every configuration resource shares: kind, version, metadata, spec."""

from datetime import datetime

import msgspec


class Metadata(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """Name, labels and life of a resource. Unknown metadata keys are ignored, unknown spec keys refused."""

    name: str
    description: str = ""
    labels: dict[str, str] = {}
    expires: datetime | None = None
    """The object disappears at this time (UTC); None: never."""
    revision: str = ""
    """Changes on every write; an update carrying a stale one is refused."""


class Base(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    """Common shape; each kind adds its `spec` and sets its tag."""

    metadata: Metadata
    version: str = ""
    sub_kind: str = ""

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def kind(self) -> str:
        tag = type(self).__struct_config__.tag
        assert isinstance(tag, str)
        return tag


class Spec(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Base of every spec: unknown keys are refused with their path."""
