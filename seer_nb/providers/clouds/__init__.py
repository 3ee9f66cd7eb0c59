"""Virtual machines of other clouds than EC2, rented through dask-cloudprovider.

None of these was run against its real service: their calls were checked against the clouds' own Python packages, with
answers made up. The first study on one should be a small one, watched in the cloud's console.

When its runner dies, a machine powers itself off. GCP bills it no more then, but for its disk, and Fargate a container
neither; DigitalOcean, Hetzner, Azure and most OpenStack clouds bill it until it is deleted, which the study's next
runner does: ``study.resume()``, or ``study.stop()`` after it.
"""

from seer_nb.providers.clouds.azure import Azure
from seer_nb.providers.clouds.digitalocean import DigitalOcean
from seer_nb.providers.clouds.fargate import Fargate
from seer_nb.providers.clouds.gcp import GCP
from seer_nb.providers.clouds.hetzner import Hetzner
from seer_nb.providers.clouds.openstack import OpenStack

__all__ = ["GCP", "Azure", "DigitalOcean", "Fargate", "Hetzner", "OpenStack"]
