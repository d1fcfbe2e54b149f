"""`teleport.yaml` as frozen typed values, its defaults and its versions.

`load_config(path)` reads a file, `config_for(service, flags)` also lays flags over it. Anything unknown, of a
wrong type or not allowed is one line: file, line, dotted path, what was found, what is allowed.
"""

from __future__ import annotations

from pkgs.common.runtime.config.auth import Authentication, AuthService
from pkgs.common.runtime.config.db import DbService
from pkgs.common.runtime.config.file import Config, DebugService, StaticToken, load_config, parse_config
from pkgs.common.runtime.config.instance import DEFAULT_DATA_DIR, Instance, JoinParams, Storage
from pkgs.common.runtime.config.overlay import config_for
from pkgs.common.runtime.config.proxy import KeyPair, ProxyService
from pkgs.common.runtime.config.ssh import CommandLabel, SshService

__all__ = [
    "DEFAULT_DATA_DIR",
    "AuthService",
    "Authentication",
    "CommandLabel",
    "Config",
    "DbService",
    "DebugService",
    "Instance",
    "JoinParams",
    "KeyPair",
    "ProxyService",
    "SshService",
    "StaticToken",
    "Storage",
    "config_for",
    "load_config",
    "parse_config",
]
