"""The EMR stand-in: transient and long-running Spark clusters from RunJobFlow requests.

`Clusters` (client.py) is the library, with AWS's operation names; `python -m infra.cluster` is the
same as a command line. A cluster is one manager process (manager.py) whose state is a journal.
"""

from infra.cluster.client import Clusters

__all__ = ["Clusters"]
