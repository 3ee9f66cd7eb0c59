"""The clouds other than EC2, one of each, and a fleet on its own."""

import asyncio

import seer_nb as seer
from seer_nb.providers.base import FleetContext

CLOUDS = {
    "gcp": lambda **more: seer.GCP("g2-standard-4", zone="us-central1-a", project="project", **more),
    "azure": lambda **more: seer.Azure(
        "Standard_NC4as_T4_v3",
        location="eastus",
        resource_group="group",
        vnet="net",
        security_group="guard",
        subscription_id="subscription",
        **more,
    ),
    "digitalocean": lambda **more: seer.DigitalOcean("g-4vcpu-16gb", region="nyc3", **more),
    "hetzner": lambda **more: seer.Hetzner("ccx33", location="fsn1", **{"price_per_hour": 0.1, **more}),
    "openstack": lambda **more: seer.OpenStack(
        "large", os_image="ubuntu", network_id="net", keypair="pair", **{"price_per_hour": 0.1, **more}
    ),
}
SIZES = {
    "gcp": ("e2-standard-2", "g2-standard-4"),
    "azure": ("Standard_D2s_v5", "Standard_NC4as_T4_v3"),
    "digitalocean": ("s-2vcpu-2gb", "g-4vcpu-16gb"),
    "hetzner": ("ccx33", "ccx33"),
    "openstack": ("large", "large"),
}
"""Of the scheduler's machine, and of the others."""
GPUS = {"gcp", "azure"}


CREDENTIALS = {
    **dict.fromkeys(("DIGITALOCEAN_ACCESS_TOKEN", "HCLOUD_TOKEN", "OS_APPLICATION_CREDENTIAL_SECRET"), "secret"),
    "OS_AUTH_URL": "url",
    "OS_APPLICATION_CREDENTIAL_ID": "id",
    "OS_REGION_NAME": "R",
}
"""In environment variables."""


class Books:
    """A fleet, and what it reports."""

    def __init__(self, folder, provider):
        folder.mkdir(exist_ok=True)
        self.provider, self.ended = provider, {}
        self.fleet = provider.fleet(FleetContext(study="My Study_1", folder=folder, lease_s=30.0, ended=self._ended))

    def _ended(self, event):
        assert event.machine not in self.ended, "a machine ended twice"
        self.ended[event.machine] = event

    async def __aenter__(self):
        await self.fleet.open()
        return self

    async def __aexit__(self, *_):
        await self.fleet.close()

    def rent(self, machine):
        return self.fleet.rent(machine, self.provider.offers()[0])

    async def has_ended(self, machine):
        async with asyncio.timeout(10):
            while machine not in self.ended:  # noqa: ASYNC110 - the fleet reports it
                await asyncio.sleep(0.01)
        return self.ended[machine]
