"""Where machines come from. A provider knows no trial."""

from seer_nb.providers.dask_cluster import DaskCluster
from seer_nb.providers.ec2 import EC2
from seer_nb.providers.local import Local

__all__ = ["EC2", "DaskCluster", "Local"]
