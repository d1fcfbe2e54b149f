"""Applications: seeing one, reaching it, and using a cloud through it as one of its identities."""

from __future__ import annotations

from collections.abc import Sequence

from pkgs.common.access.protocols.grants import Demand, Principal, Protocol
from pkgs.common.access.types import ConnectApp
from pkgs.common.resources.role import Conditions


def _tools(conditions: Conditions) -> Sequence[str]:
    return conditions.mcp.tools if conditions.mcp is not None else ()


PROTOCOL = Protocol(
    "application",
    "app_labels",
    (
        Principal("aws_role_arns", deny_any=False),
        Principal("azure_identities", folded=True),
        Principal("gcp_service_accounts"),
        Principal("mcp.tools", allow_any=True, patterns=True, read=_tools),
    ),
)


def demands(target: ConnectApp) -> tuple[Demand, ...]:
    """Only what is used needs to be granted; without any the application itself is meant."""
    wanted = (target.aws_role_arn, target.azure_identity, target.gcp_service_account, target.mcp_tool)
    return tuple((index, value) for index, value in enumerate(wanted) if value)
