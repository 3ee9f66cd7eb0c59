"""Providers: where a study rents its machines. A provider knows nothing about trials.

The docstring of ``seer_nb.providers.base`` says how to add a cloud.
"""

from seer_nb.providers.aws import EC2
from seer_nb.providers.aws.fargate import Fargate
from seer_nb.providers.azure import Azure
from seer_nb.providers.dask import DaskCluster
from seer_nb.providers.digitalocean import DigitalOcean
from seer_nb.providers.gcp import GCP
from seer_nb.providers.hetzner import Hetzner
from seer_nb.providers.local import Local
from seer_nb.providers.openstack import OpenStack

__all__ = ["EC2", "GCP", "Azure", "DaskCluster", "DigitalOcean", "Fargate", "Hetzner", "Local", "OpenStack"]
