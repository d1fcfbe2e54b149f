"""Keeping hosts in order: maintenance windows, automatic updates, installers, users of hosts."""

from typing import Literal

from pkgs.common.resources.metadata import Base, Spec
from pkgs.common.resources.role import LabelValues


class AgentUpgrades(Spec, frozen=True, kw_only=True):
    utc_start_hour: int = 0
    weekdays: list[str] = []


class MaintenanceSpec(Spec, frozen=True, kw_only=True):
    agent_upgrades: AgentUpgrades = AgentUpgrades()


class MaintenanceConfig(Base, frozen=True, kw_only=True, tag="cluster_maintenance_config"):
    version: str = "v1"
    spec: MaintenanceSpec = MaintenanceSpec()


class AutoupdateTools(Spec, frozen=True, kw_only=True):
    mode: Literal["", "enabled", "disabled"] = ""


class AutoupdateGroup(Spec, frozen=True, kw_only=True):
    name: str
    days: list[str] = []
    start_hour: int = 0
    wait_hours: int = 0
    canary_count: int = 0


class AutoupdateSchedules(Spec, frozen=True, kw_only=True):
    regular: list[AutoupdateGroup] = []


class AutoupdateAgents(Spec, frozen=True, kw_only=True):
    mode: Literal["", "enabled", "disabled", "suspended"] = ""
    strategy: Literal["", "time-based", "halt-on-error"] = ""
    maintenance_window_duration: str = ""
    schedules: AutoupdateSchedules = AutoupdateSchedules()


class AutoupdateConfigSpec(Spec, frozen=True, kw_only=True):
    tools: AutoupdateTools | None = None
    agents: AutoupdateAgents | None = None


class AutoupdateConfig(Base, frozen=True, kw_only=True, tag="autoupdate_config"):
    version: str = "v1"
    spec: AutoupdateConfigSpec = AutoupdateConfigSpec()


class ToolsVersion(Spec, frozen=True, kw_only=True):
    target_version: str = ""


class AgentsVersion(Spec, frozen=True, kw_only=True):
    start_version: str = ""
    target_version: str = ""
    schedule: Literal["", "regular", "immediate"] = ""
    mode: Literal["", "enabled", "disabled", "suspended"] = ""


class AutoupdateVersionSpec(Spec, frozen=True, kw_only=True):
    tools: ToolsVersion | None = None
    agents: AgentsVersion | None = None


class AutoupdateVersion(Base, frozen=True, kw_only=True, tag="autoupdate_version"):
    version: str = "v1"
    spec: AutoupdateVersionSpec = AutoupdateVersionSpec()


class RolloutSpec(Spec, frozen=True, kw_only=True):
    start_version: str = ""
    target_version: str = ""
    schedule: Literal["", "regular", "immediate"] = ""
    autoupdate_mode: Literal["", "enabled", "disabled", "suspended"] = ""
    strategy: Literal["", "time-based", "halt-on-error"] = ""


class RolloutStatus(Spec, frozen=True, kw_only=True):
    state: str = ""


class AutoupdateAgentRollout(Base, frozen=True, kw_only=True, tag="autoupdate_agent_rollout"):
    version: str = "v1"
    spec: RolloutSpec = RolloutSpec()
    status: RolloutStatus | None = None


class InstallerSpec(Spec, frozen=True, kw_only=True):
    script: str


class Installer(Base, frozen=True, kw_only=True, tag="installer"):
    version: str = "v1"
    spec: InstallerSpec


class HostUserMatcher(Spec, frozen=True, kw_only=True):
    node_labels: list[LabelValues] = []
    node_labels_expression: str = ""
    groups: list[str] = []
    sudoers: list[str] = []
    uid: int = 0
    gid: int = 0
    default_shell: str = ""
    take_ownership_if_user_exists: bool = False


class StaticHostUserSpec(Spec, frozen=True, kw_only=True):
    matchers: list[HostUserMatcher] = []


class StaticHostUser(Base, frozen=True, kw_only=True, tag="static_host_user"):
    """An OS account on matching servers; `metadata.name` is the login."""

    version: str = "v2"
    spec: StaticHostUserSpec = StaticHostUserSpec()
