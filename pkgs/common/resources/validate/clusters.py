"""What the settings, other clusters, connectors, discovery and updates may look like."""

from __future__ import annotations

import re

from pkgs.common.errors import InputError
from pkgs.common.resources.durations import parse_duration
from pkgs.common.resources.kinds import (
    AuthPreference,
    AutoupdateConfig,
    AutoupdateVersion,
    CrownJewel,
    DbObjectImportRule,
    DiscoveryConfig,
    Github,
    Installer,
    Integration,
    MaintenanceConfig,
    NetworkingConfig,
    Oidc,
    RecordingConfig,
    RemoteCluster,
    Saml,
    StaticHostUser,
    TrustedCluster,
    UiConfig,
    VnetConfig,
)
from pkgs.common.resources.kinds.connectors import RedirectSettings
from pkgs.common.resources.names import valid_cluster_name, valid_login
from pkgs.common.resources.validate import words
from pkgs.common.resources.validate.roles import check_mfa

_VERSION = re.compile(r"v?[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}(?:[-+][0-9A-Za-z.+-]{1,40})?", re.ASCII)
_LEAST_RETENTION_S = 3600.0
_BLOCKS = {"aws-oidc": "aws_oidc", "azure-oidc": "azure_oidc", "github": "github", "aws-ra": "aws_ra"}


def check_preference(preference: AuthPreference, where: str) -> None:
    spec = preference.spec
    parse_duration(spec.default_session_ttl, f"{where}: spec.default_session_ttl")
    check_mfa(spec.require_session_mfa, f"{where}: spec.require_session_mfa")
    words.prose(spec.message_of_the_day, f"{where}: spec.message_of_the_day")
    users = spec.stable_unix_user_config
    if users is not None and users.enabled and not 0 < users.first_uid <= users.last_uid:
        raise InputError(f"{where}: spec.stable_unix_user_config: first_uid is above last_uid, or 0")


def check_networking(config: NetworkingConfig, where: str) -> None:
    names = ("client_idle_timeout", "web_idle_timeout", "keep_alive_interval", "session_control_timeout")
    words.durations(config.spec, (*names, "proxy_ping_interval", "ssh_dial_timeout"), where)
    words.prose(config.spec.client_idle_timeout_message, f"{where}: spec.idle_timeout_message")
    words.at_least(config.spec.keep_alive_count_max, 0, f"{where}: spec.keep_alive_count_max")


def check_recording(config: RecordingConfig, where: str) -> None:
    words.durations(config.spec, ("retention",), where)
    if 0 < parse_duration(config.spec.retention) < _LEAST_RETENTION_S:
        raise InputError(f"{where}: spec.retention: at least an hour", hint="leave it out to keep recordings")


def check_ui(config: UiConfig, where: str) -> None:
    words.at_least(config.spec.scrollback_lines, 0, f"{where}: spec.scrollback_lines")


def check_vnet(config: VnetConfig, where: str) -> None:
    words.network(config.spec.ipv4_cidr_range, f"{where}: spec.ipv4_cidr_range")
    for index, zone in enumerate(config.spec.custom_dns_zones):
        if not valid_cluster_name(zone.suffix):
            raise InputError(f"{where}: spec.custom_dns_zones[{index}].suffix: not a DNS name")


def check_trusted(cluster: TrustedCluster, where: str) -> None:
    if not valid_cluster_name(cluster.name):
        raise InputError(f"{where}: metadata.name: expected the name of the root cluster")
    seen: set[str] = set()
    for index, mapping in enumerate(cluster.spec.role_map):
        at = f"{where}: spec.role_map[{index}]"
        words.pattern(mapping.remote, f"{at}.remote")
        words.filled(mapping.local, f"{at}.local")
        if "*" in mapping.local or "" in mapping.local:
            raise InputError(f"{at}.local: a role is named, '*' is not allowed")
        if mapping.remote in seen:
            raise InputError(f"{at}.remote: {words.short(mapping.remote)!r} is given twice")
        seen.add(mapping.remote)


def check_remote(cluster: RemoteCluster, where: str) -> None:
    if not valid_cluster_name(cluster.name):
        raise InputError(f"{where}: metadata.name: expected the name of a cluster")


def check_github(connector: Github, where: str) -> None:
    spec = connector.spec
    words.filled(spec.client_id, f"{where}: spec.client_id")
    words.url(spec.endpoint_url, ("https", "http"), f"{where}: spec.endpoint_url")
    words.url(spec.api_endpoint_url, ("https", "http"), f"{where}: spec.api_endpoint_url")
    _check_redirects(spec.client_redirect_settings, where)
    for index, team in enumerate(spec.teams_to_roles):
        words.filled(team.roles, f"{where}: spec.teams_to_roles[{index}].roles")


def _check_redirects(settings: RedirectSettings | None, where: str) -> None:
    for index, text in enumerate(settings.insecure_allowed_cidr_ranges if settings is not None else ()):
        at = f"{where}: spec.client_redirect_settings.insecure_allowed_cidr_ranges[{index}]"
        words.network(text, at)


def check_oidc(connector: Oidc, where: str) -> None:
    spec = connector.spec
    words.url(spec.issuer_url, ("https", "http"), f"{where}: spec.issuer_url")
    words.filled(spec.client_id, f"{where}: spec.client_id")
    parse_duration(spec.max_age, f"{where}: spec.max_age")
    if spec.mfa is not None:
        parse_duration(spec.mfa.max_age, f"{where}: spec.mfa.max_age")
    _check_redirects(spec.client_redirect_settings, where)
    for index, claim in enumerate(spec.claims_to_roles):
        words.filled(claim.claim, f"{where}: spec.claims_to_roles[{index}].claim")
        words.filled(claim.roles, f"{where}: spec.claims_to_roles[{index}].roles")


def check_saml(connector: Saml, where: str) -> None:
    spec = connector.spec
    words.url(spec.acs, ("https", "http"), f"{where}: spec.acs")
    by_hand = spec.issuer and spec.sso and spec.cert
    if not (spec.entity_descriptor or spec.entity_descriptor_url or by_hand):
        raise InputError(
            f"{where}: spec: the identity provider is missing",
            hint="entity_descriptor, entity_descriptor_url, or issuer with sso and cert",
        )
    for index, attribute in enumerate(spec.attributes_to_roles):
        words.filled(attribute.roles, f"{where}: spec.attributes_to_roles[{index}].roles")


def check_discovery(config: DiscoveryConfig, where: str) -> None:
    words.filled(config.spec.discovery_group, f"{where}: spec.discovery_group")
    spec = config.spec
    for name in ("aws", "azure", "gcp", "kube"):
        for index, matcher in enumerate(getattr(spec, name)):
            words.filled(matcher.types, f"{where}: spec.{name}[{index}].types")


def check_integration(integration: Integration, where: str) -> None:
    wanted = _BLOCKS[integration.sub_kind]
    given: dict[str, object] = {name: getattr(integration.spec, name) for name in _BLOCKS.values()}
    words.exactly_one(given, f"{where}: spec")
    if not given[wanted]:
        raise InputError(f"{where}: spec.{wanted}: missing", hint=f"sub_kind is {integration.sub_kind}")


def check_import_rule(rule: DbObjectImportRule, where: str) -> None:
    words.filled(rule.spec.database_labels, f"{where}: spec.database_labels")
    words.label_list(rule.spec.database_labels, f"{where}: spec.database_labels")
    words.filled(rule.spec.mappings, f"{where}: spec.mappings")
    for index, mapping in enumerate(rule.spec.mappings):
        at = f"{where}: spec.mappings[{index}]"
        match, scope = mapping.match, mapping.scope
        words.filled(match.table_names or match.view_names or match.procedure_names, f"{at}.match")
        words.filled(mapping.add_labels, f"{at}.add_labels", "objects without labels are not imported")
        for field, part in (("match", match), ("scope", scope)):
            for name in part.__struct_fields__:
                for number, text in enumerate(getattr(part, name)):
                    words.pattern(text, f"{at}.{field}.{name}[{number}]")
        for key in mapping.add_labels:
            if not words.valid_label_key(key):
                raise InputError(f"{at}.add_labels: {words.short(key)!r} is not a valid label name")


def check_jewel(jewel: CrownJewel, where: str) -> None:
    if not jewel.spec.teleport_matchers and not jewel.spec.aws_matchers and not jewel.spec.query:
        raise InputError(f"{where}: spec: no matchers")


def check_installer(installer: Installer, where: str) -> None:
    words.filled(installer.spec.script, f"{where}: spec.script")


def check_host_user(user: StaticHostUser, where: str) -> None:
    if not valid_login(user.name):
        raise InputError(f"{where}: metadata.name: not the login of an OS account")
    words.filled(user.spec.matchers, f"{where}: spec.matchers")
    for index, matcher in enumerate(user.spec.matchers):
        at = f"{where}: spec.matchers[{index}]"
        if not matcher.node_labels and not matcher.node_labels_expression:
            raise InputError(f"{at}: neither node_labels nor node_labels_expression")
        words.label_list(matcher.node_labels, f"{at}.node_labels")
        words.at_least(matcher.uid, 0, f"{at}.uid")
        words.at_least(matcher.gid, 0, f"{at}.gid")


def check_maintenance(config: MaintenanceConfig, where: str) -> None:
    upgrades = config.spec.agent_upgrades
    words.between(upgrades.utc_start_hour, 0, 23, f"{where}: spec.agent_upgrades.utc_start_hour")
    words.days(upgrades.weekdays, f"{where}: spec.agent_upgrades.weekdays")


def check_autoupdate_config(config: AutoupdateConfig, where: str) -> None:
    agents = config.spec.agents
    if agents is not None:
        parse_duration(
            agents.maintenance_window_duration, f"{where}: spec.agents.maintenance_window_duration"
        )
        for index, group in enumerate(agents.schedules.regular):
            at = f"{where}: spec.agents.schedules.regular[{index}]"
            words.filled(group.name, f"{at}.name")
            words.days(group.days, f"{at}.days")
            words.between(group.start_hour, 0, 23, f"{at}.start_hour")
            words.at_least(group.wait_hours, 0, f"{at}.wait_hours")


def check_autoupdate_version(version: AutoupdateVersion, where: str) -> None:
    tools, agents = version.spec.tools, version.spec.agents
    texts = [("tools.target_version", tools.target_version)] if tools is not None else []
    if agents is not None:
        texts += [("agents.start_version", agents.start_version)]
        texts += [("agents.target_version", agents.target_version)]
    for name, text in texts:
        if text and not _VERSION.fullmatch(text):
            raise InputError(f"{where}: spec.{name}: {words.short(text)!r} is no version", hint="like 1.2.3")
