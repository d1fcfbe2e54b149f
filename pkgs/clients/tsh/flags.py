"""Flags that every verb of tsh knows, and the small sets that several verbs share."""

from __future__ import annotations

from pkgs.common.output.argv import Flag

COMMON = (
    Flag("proxy", "Proxy address, host[:port]", env="TELEPORT_PROXY", metavar="ADDR"),
    Flag("user", "Teleport user name", env="TELEPORT_USER", metavar="NAME"),
    Flag("login", "Login on the remote host", short="l", env="TELEPORT_LOGIN", metavar="LOGIN"),
    Flag("auth", "How to log in: local, or headless", env="TELEPORT_AUTH", choices=("", "local", "headless"),
         metavar="NAME"),
    Flag("headless", "Log in for this command only, approved on another machine", is_bool=True,
         env="TELEPORT_HEADLESS"),
    Flag("ttl", "Requested lifetime of the certificates, in minutes", metavar="MINUTES"),
    Flag("identity", "Identity file to use instead of the profile", short="i", env="TELEPORT_IDENTITY_FILE",
         metavar="FILE"),
    Flag("add-keys-to-agent", "Accepted for compatibility; keys stay in files", short="k", default="no",
         choices=("auto", "no"), metavar="WHEN"),
    Flag("mfa-mode", "Second factor to use", default="auto", choices=("auto", "otp"), metavar="MODE"),
    Flag("skip-version-check", "Accepted for compatibility; versions are not compared", is_bool=True),
    Flag("insecure", "Do not verify the proxy's web certificate (log-in and sign-up only)", is_bool=True),
    Flag("debug", "Show details of errors", short="d", is_bool=True, env="TELEPORT_DEBUG"),
)  # fmt: skip

CLUSTER = Flag("cluster", "Cluster to connect to", short="c", env="TELEPORT_CLUSTER", metavar="NAME")
FORMAT = Flag("format", "Output format", short="f", default="text", choices=("text", "json", "yaml"),
              metavar="FORMAT")  # fmt: skip
VERBOSE = Flag("verbose", "Show more columns and do not cut them", short="v", is_bool=True)
RESUME = (
    Flag("no-resume", "End with the connection instead of resuming it when it is lost", is_bool=True,
         env="TELEPORT_NO_RESUME"),
    Flag("relogin", "Ask for the password again when the login has expired and a person is at the terminal",
         is_bool=True, default="true"),
)  # fmt: skip
JUMP = Flag(
    "jumphost",
    "Proxy to go through, host[:port], whose login is used; '{{proxy}}': the one that a"
    " template of the configuration file says; 'none': heed no templates",
    short="J",
    metavar="ADDR",
)
NO_OPENSSH = Flag("no-openssh", "Use tsh's own SSH client, as when OpenSSH's is not installed", is_bool=True,
                  env="TELEPORT_NO_OPENSSH")  # fmt: skip
