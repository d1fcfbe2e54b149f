"""The verbs that connect other programs through the proxy: `tsh proxy ssh`, `db`, `ssh-multiplex`."""
