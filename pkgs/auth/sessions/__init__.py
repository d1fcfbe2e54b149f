"""The live sessions of the cluster, as the agents that run them tell: listing them, and ending one.

Kept in memory: an agent tells again within a minute, and at once when this service is back. Promises that an
agent speaks for its own sessions only. Must not know how sessions are run or joined.
"""
