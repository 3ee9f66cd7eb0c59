"""What clouds other than EC2 cost, and what they do not take."""

import sys

import pytest

import seer_nb as seer
from seer_nb.core.money import BillingRule
from seer_nb.providers.vm import tls
from tests.providers.cloud_kinds import CLOUDS


def test_prices_are_known_or_given_and_hold_what_is_beside_the_machine():
    (gcp,) = CLOUDS["gcp"]().offers()
    assert gcp.price_per_hour > 706_900, "disk and address come to it"
    assert (gcp.gpus, gcp.billing) == (1, BillingRule(unit="second", minimum_s=60))
    (hetzner,) = CLOUDS["hetzner"]().offers()
    assert hetzner.billing == BillingRule(unit="hour", minimum_s=3600)
    assert CLOUDS["openstack"](billing="hour").offers()[0].billing == BillingRule(unit="hour", minimum_s=3600)
    assert CLOUDS["openstack"]().offers()[0].price_per_hour == 100_000
    four = {"accelerator": "nvidia-tesla-t4", "accelerators": 4, "price_per_hour": 1.8}
    with_four = seer.GCP("n1-standard-8", zone="us-central1-a", project="p", **four)
    (offer,) = with_four.offers()
    assert (offer.gpus, offer.workers_per_machine, with_four.max_workers) == (4, 4, 32)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_machine_that_has_powered_itself_off_is_billed_by_most(cloud):
    provider = CLOUDS[cloud]()
    assert {offer.billed_until_deleted for offer in (provider.host, *provider.offers())} == {cloud != "gcp"}
    assert not seer.EC2("m5.large", region="us-east-1").host.billed_until_deleted


def test_spot_machines_are_offered_as_such_but_for_the_schedulers():
    provider = CLOUDS["gcp"](spot=True)
    (offer,) = provider.offers()
    assert (offer.spot, offer.name, offer.losses_per_hour) == (True, "g2-standard-4 spot", 0.03)
    assert (provider.host.spot, provider.host.name) == (False, "scheduler")


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (
            lambda: seer.DigitalOcean("g-4vcpu-16g", region="nyc3"),
            ValueError,
            "no price is known for instance_type='g-4vcpu-16g' in region='nyc3' of digitalocean",
        ),
        (lambda: seer.Hetzner("ccx33", location="fsn1"), ValueError, "no price is known for instance_type='ccx33'"),
        (
            lambda: seer.OpenStack("large", os_image="i", network_id="n", keypair="k"),
            ValueError,
            "price_per_hour=None, but no price of 'large' is known: give dollars an hour",
        ),
        (
            lambda: CLOUDS["openstack"](billing="day"),
            ValueError,
            'billing=\'day\' is unknown: give "second" or "hour"',
        ),
        (
            lambda: seer.GCP("n1-standard-8", zone="us-central1", project="p"),
            ValueError,
            "zone='us-central1' is no zone: give one such as \"us-central1-a\"",
        ),
        (
            lambda: seer.GCP("n1-standard-8", zone="us-central1-a", project="p", accelerator="nvidia-tesla-t4"),
            ValueError,
            "price_per_hour=None, but none is known with accelerator='nvidia-tesla-t4': give dollars an hour",
        ),
        (
            lambda: CLOUDS["azure"](disk_gb=2000),
            ValueError,
            "disk_gb=2000 is no disk's size: give one from 1 to 1023",
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
            "network_id='' is not text: give it as the cloud writes it",
        ),
        (
            lambda: seer.Azure("Standard_D2s_v5", location="eastus", resource_group=None, vnet="v", security_group="s"),
            TypeError,
            "resource_group=None is not text",
        ),
        (lambda: seer.GCP(4, zone="us-central1-a", project="p"), TypeError, "machine_type=4 is not text"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(make, error, sentence):
    with pytest.raises(error) as caught:
        make()
    assert sentence in str(caught.value)


def test_a_project_or_token_that_is_nowhere_is_asked_for(monkeypatch, home):
    for name in ("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT", "HCLOUD_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    places = "neither GOOGLE_CLOUD_PROJECT nor GCLOUD_PROJECT nor .* is set"
    with pytest.raises(ValueError, match=f"project=None, and {places}"):
        seer.GCP("n1-standard-8", zone="us-central1-a")
    with pytest.raises(seer.SeerError, match="no token of Hetzner is known: set HCLOUD_TOKEN or "):
        CLOUDS["hetzner"]().launcher("study", tls.load(home))


@pytest.mark.parametrize("cloud", CLOUDS)
def test_packages_that_are_missing_are_named(cloud, home, monkeypatch):
    for name in ("googleapiclient", "digitalocean", "hcloud", "openstack", "azure.mgmt.network"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in [name for name in sys.modules if name.startswith(f"dask_cloudprovider.{cloud}")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(seer.SeerError, match=rf'needs packages that are not .*"dask-cloudprovider\[{cloud}\]"'):
        CLOUDS[cloud]().launcher("study", tls.load(home))
