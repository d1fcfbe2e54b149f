"""What names in certificates may look like. The rules live with the resources, which carry the same names."""

from __future__ import annotations

from pkgs.common.resources.names import (
    valid_cluster_name,
    valid_host_id,
    valid_host_name,
    valid_login,
    valid_user_name,
)

__all__ = ["valid_cluster_name", "valid_host_id", "valid_host_name", "valid_login", "valid_user_name"]
