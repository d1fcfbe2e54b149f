"""How a client reaches a database by its own TLS: names, port and files."""

from __future__ import annotations

from pkgs.clients.tsh.databases import listing
from pkgs.clients.tsh.databases.certificates import held_or_obtained, whom
from pkgs.clients.tsh.databases.files import Held
from pkgs.clients.tsh.profile.login import Login
from pkgs.common.errors import InputError
from pkgs.common.net.sockets import split_host_port
from pkgs.common.output.argv import Parsed


class Direct:
    """What such a client is told. The name has to lead to the proxy, by DNS or by the client's own settings
    (`hostaddr` of PostgreSQL's); the certificate that the client sees is the agent's."""

    __slots__ = ("address", "ca", "held", "host", "port")

    def __init__(self, login: Login, held: Held) -> None:
        self.held = held
        self.host = f"{held.service}.db.{login.cluster}"
        self.address, self.port = split_host_port(proxy_addr(login, held.protocol), 443)
        self.ca = login.ca_file

    def facts(self) -> dict[str, str]:
        """By name, as `tsh db config` shows them."""
        return {
            "name": self.held.service,
            "protocol": self.held.protocol,
            "host": self.host,
            "proxy": self.address,
            "port": str(self.port),
            "user": self.held.user,
            "database": self.held.database,
            "ca": self.ca,
            "cert": str(self.held.cert),
            "key": str(self.held.key),
        }


def proxy_addr(login: Login, protocol: str) -> str:
    """The proxy's port for clients of a protocol that do their own TLS. Raises InputError: it has none."""
    if protocol != "mysql":
        return login.proxy_addr
    if not login.mysql_proxy_addr:
        raise InputError(
            "the proxy has no port for MySQL clients that do their own TLS",
            hint="use 'tsh db connect' or 'tsh proxy db --tunnel'; if it was given one since, log in again",
        )
    return login.mysql_proxy_addr


def of_args(login: Login, args: Parsed) -> Direct:
    """For the database that the flags mean, with a certificate for it."""
    return Direct(login, held_or_obtained(login, listing.the_one(login, args), whom(args)))
