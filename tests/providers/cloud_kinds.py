"""Providers of the clouds other than EC2, one each."""

import seer_nb as seer

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
"""Machine types of the scheduler machine and of the others."""
GPU_CLOUDS = {"gcp", "azure"}
"""Clouds whose machines here have GPUs."""
CREDENTIALS = {
    **dict.fromkeys(("DIGITALOCEAN_ACCESS_TOKEN", "HCLOUD_TOKEN", "OS_APPLICATION_CREDENTIAL_SECRET"), "secret"),
    "OS_AUTH_URL": "url",
    "OS_APPLICATION_CREDENTIAL_ID": "id",
    "OS_REGION_NAME": "R",
}
"""Environment variables with made-up credentials."""
