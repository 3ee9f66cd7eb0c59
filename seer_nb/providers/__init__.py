"""Where machines come from. A provider knows no trial."""

from seer_nb.providers.clouds import GCP, Azure, DigitalOcean, Fargate, Hetzner, OpenStack
from seer_nb.providers.dask_cluster import DaskCluster
from seer_nb.providers.ec2 import EC2
from seer_nb.providers.local import Local

__all__ = ["EC2", "GCP", "Azure", "DaskCluster", "DigitalOcean", "Fargate", "Hetzner", "Local", "OpenStack"]
