"""Prices of clouds other than EC2, and invalid arguments of all clouds."""

import asyncio
import sys

import pytest

import seer_nb as seer
from seer_nb.core.money import BillingRule
from seer_nb.providers.aws import api
from seer_nb.providers.vm import tls
from tests.providers.cloud_kinds import CLOUDS


def test_prices_are_known_or_given_and_include_disk_and_address():
    (gcp,) = CLOUDS["gcp"]().offers()
    assert gcp.price_per_hour_micro > 706_900, "the price includes disk and address"
    assert (gcp.gpus, gcp.billing) == (1, BillingRule(unit="second", minimum_s=60))
    (hetzner,) = CLOUDS["hetzner"]().offers()
    assert hetzner.billing == BillingRule(unit="hour", minimum_s=3600)
    assert CLOUDS["openstack"](billing="hour").offers()[0].billing == BillingRule(unit="hour", minimum_s=3600)
    assert CLOUDS["openstack"]().offers()[0].price_per_hour_micro == 100_000
    four = {"accelerator": "nvidia-tesla-t4", "accelerators": 4, "price_per_hour": 1.8}
    with_four = seer.GCP("n1-standard-8", zone="us-central1-a", project="p", **four)
    (offer,) = with_four.offers()
    assert (offer.gpus, offer.workers_per_machine, with_four.max_workers) == (4, 4, 32)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_most_clouds_bill_a_machine_until_it_is_deleted(cloud):
    provider = CLOUDS[cloud]()
    assert {offer.billed_until_deleted for offer in (provider.scheduler_offer, *provider.offers())} == {cloud != "gcp"}
    assert not seer.EC2("m5.large", region="us-east-1").scheduler_offer.billed_until_deleted


def test_scheduler_machine_is_never_a_spot_machine():
    provider = CLOUDS["gcp"](spot=True)
    (offer,) = provider.offers()
    assert (offer.spot, offer.name, offer.preemptions_per_hour) == (True, "g2-standard-4 spot", 0.03)
    assert (provider.scheduler_offer.spot, provider.scheduler_offer.name) == (False, "scheduler")


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (
            lambda: seer.DigitalOcean("g-4vcpu-16g", region="nyc3"),
            ValueError,
            "instance_type='g-4vcpu-16g': no price is known in region='nyc3' of digitalocean",
        ),
        (lambda: seer.Hetzner("ccx33", location="fsn1"), ValueError, "instance_type='ccx33': no price is known in "),
        (
            lambda: seer.OpenStack("large", os_image="i", network_id="n", keypair="k"),
            ValueError,
            "price_per_hour=None: no price of 'large' is known; expected dollars per hour",
        ),
        (
            lambda: CLOUDS["openstack"](billing="day"),
            ValueError,
            'billing=\'day\': unknown billing unit; expected "second" or "hour"',
        ),
        (
            lambda: seer.GCP("n1-standard-8", zone="us-central1", project="p"),
            ValueError,
            "zone='us-central1': not a zone; expected one such as \"us-central1-a\"",
        ),
        (
            lambda: seer.GCP("n1-standard-8", zone="us-central1-a", project="p", accelerator="nvidia-tesla-t4"),
            ValueError,
            "price_per_hour=None: no price is known with accelerator='nvidia-tesla-t4'; expected dollars per hour",
        ),
        (
            lambda: CLOUDS["azure"](disk_gb=2000),
            ValueError,
            "disk_gb=2000: not a disk size; expected an integer from 1 to 1023",
        ),
        (
            lambda: CLOUDS["gcp"](max_machines=0),
            ValueError,
            "max_machines=0: not a number of machines; expected an integer",
        ),
        (lambda: CLOUDS["gcp"](boot_time="soon"), ValueError, "boot_time='soon': not a length of time"),
        (
            lambda: seer.OpenStack("large", os_image="i", network_id="", keypair="k", price_per_hour=0.1),
            TypeError,
            "network_id='': not text; expected a name or id as the cloud writes it",
        ),
        (
            lambda: seer.Azure("Standard_D2s_v5", location="eastus", resource_group=None, vnet="v", security_group="s"),
            TypeError,
            "resource_group=None: not text",
        ),
        (lambda: seer.GCP(4, zone="us-central1-a", project="p"), TypeError, "machine_type=4: not text"),
    ],
)
def test_invalid_arguments_are_named_in_the_message(make, error, sentence):
    with pytest.raises(error) as caught:
        make()
    assert sentence in str(caught.value)


def test_message_names_where_to_set_a_missing_project_or_token(monkeypatch, home):
    for name in ("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT", "HCLOUD_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    places = "neither GOOGLE_CLOUD_PROJECT nor GCLOUD_PROJECT nor .* is set"
    with pytest.raises(ValueError, match=f"project=None: {places}"):
        seer.GCP("n1-standard-8", zone="us-central1-a")
    with pytest.raises(seer.SeerError, match="no token of Hetzner is known: set HCLOUD_TOKEN or "):
        CLOUDS["hetzner"]().launcher("study", tls.load(home))


@pytest.mark.parametrize("cloud", CLOUDS)
def test_message_names_missing_packages(cloud, home, monkeypatch):
    for name in ("googleapiclient", "digitalocean", "hcloud", "openstack", "azure.mgmt.network"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in [name for name in sys.modules if name.startswith(f"dask_cloudprovider.{cloud}")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(seer.SeerError, match=rf'needs packages that are not .*"dask-cloudprovider\[{cloud}\]"'):
        CLOUDS[cloud]().launcher("study", tls.load(home))


# --- network access to EC2 machines ---


@pytest.mark.parametrize("ingress", ["here", "300.1.1.1/32", "2001:db8::/32", 7, ""])
def test_invalid_ingress_is_refused(ingress):
    with pytest.raises(
        ValueError, match=r'^ingress=.*: not an IPv4 network; expected CIDR notation such as "203\.0\.113\.7/32"$'
    ):
        seer.EC2("m5.large", region="us-east-1", ingress=ingress)


def test_networks_are_normalized_for_ec2():
    written = {"203.0.113.7": "203.0.113.7/32", "10.1.2.3/8": "10.0.0.0/8", "0.0.0.0/0": "0.0.0.0/0"}
    assert {one: seer.EC2("m5.large", region="us-east-1", ingress=one).ingress for one in written} == written


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_invalid_public_address_is_an_error(anyio_backend, monkeypatch):
    async def page(function):
        return "<html>log in first</html>"

    monkeypatch.setattr(asyncio, "to_thread", page)
    with pytest.raises(seer.SeerError, match=r"the public address of this computer is unknown .*give ingress="):
        await api.own_network()
