"""The one adapter around the SSH library: transports, certificates on both sides, algorithms, limits.

No other room imports paramiko, and no paramiko type leaves this one. A server connection is one process
(see `process`): `connection` speaks SSH in it, and it holds no key of the cluster: host signatures, the
check of the user's certificate and every decision come from the service's main process. `sessions` keeps
the record of what users did. Must not know what a node or a role allows.
"""

import sys

# paramiko's reader of client configurations, which nothing here uses, loads a task runner where there is one,
# and asyncio with it: some megabytes in every process that speaks SSH. It works without.
sys.modules.setdefault("invoke", None)  # type: ignore[arg-type]
