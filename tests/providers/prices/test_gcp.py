"""Google's present prices, from a local server with the format of the Cloud Billing Catalog; login with google-auth."""

import json
import re
import sys
from functools import partial

import pytest

from seer_nb.errors import SeerError
from seer_nb.providers import prices
from seer_nb.providers.prices import gcp, tables
from seer_nb.ui import cli
from tests.providers.prices.test_refresh import BAD, Site
from tests.support.refusals import raised

AMERICAS = ["us-central1", "us-east1", "us-west1"]
KEEP = "known prices are kept where GCP's catalog is ambiguous: "


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SEER_HOME", str(tmp_path / "studies"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("GOOGLE_CLOUD_API_KEY", "made-up")
    return tmp_path / "studies"


USUAL = {"units": "0", "usage": "OnDemand", "group": "CPU", "regions": AMERICAS, "family": "Compute"}


def sku(description, nanos, unit="h", **more):
    """Return an entry of the catalog in Google's format."""
    units, usage, group, regions, family = {**USUAL, **more}.values()
    money = {"currencyCode": "USD", "units": units, "nanos": nanos}
    return {
        "name": "services/6F81-5844-456A/skus/2E27-4F75-95CD",
        "skuId": "2E27-4F75-95CD",
        "description": description,
        "category": {
            "serviceDisplayName": "Compute Engine",
            "resourceFamily": family,
            "resourceGroup": group,
            "usageType": usage,
        },
        "serviceRegions": regions,
        "pricingInfo": [
            {
                "summary": "",
                "pricingExpression": {
                    "usageUnit": unit,
                    "displayQuantity": 1,
                    "tieredRates": [{"startUsageAmount": 0, "unitPrice": money}],
                    "usageUnitDescription": "hour",
                    "baseUnit": "s",
                    "baseUnitDescription": "second",
                    "baseUnitConversionFactor": 3600,
                },
                "currencyConversionRate": 1,
                "effectiveTime": "2026-11-25T08:00:00.000Z",
            }
        ],
        "serviceProviderName": "Google",
        "geoTaxonomy": {"type": "MULTI_REGIONAL", "regions": regions},
    }


def spot(description, nanos, unit="h", **more):
    return sku(description, nanos, unit, usage="Preemptible", **more)


PLAIN = [
    sku("E2 Instance Core running in Americas", 21_811_590),
    sku("E2 Instance Ram running in Americas", 2_923_530, "GiBy.h", group="RAM"),
    spot("Spot Preemptible E2 Instance Core running in Americas", 8_000_000),
    spot("Spot Preemptible E2 Instance Ram running in Americas", 1_000_000, "GiBy.h", group="RAM"),
    sku("N1 Predefined Instance Core running in Americas", 31_611_000, group="N1Standard"),
    sku("N1 Predefined Instance Ram running in Americas", 4_237_000, "GiBy.h", group="N1Standard"),
    # An older description; the matching price of memory is missing.
    spot("Preemptible N1 Predefined Instance Core running in Americas", 6_655_000, group="N1Standard"),
    sku("G2 Instance Core running in Americas", 24_988_000),
    sku("G2 Instance Ram running in Americas", 2_927_000, "GiBy.h", group="RAM"),
    sku("Nvidia L4 GPU running in Americas", 560_040_000, group="GPU"),
    spot("Spot Preemptible G2 Instance Core running in Americas", 10_000_000),
    spot("Spot Preemptible G2 Instance Ram running in Americas", 1_000_000, "GiBy.h", group="RAM"),
    spot("Nvidia L4 GPU attached to Spot Preemptible VMs running in Americas", 224_000_000, group="GPU"),
    sku("A2 Instance Core running in Americas", 31_611_000),
    sku("A2 Instance Ram running in Americas", 4_237_000, "GiBy.h", group="RAM"),
    sku("Nvidia Tesla A100 GPU running in Americas", 933_908_000, units="2", group="GPU"),
]
CONFUSING = [
    sku("E2 Custom Instance Core running in Americas", 1),
    sku("E2 Instance Core running in Finland", 1, regions=["europe-north1"]),
    sku("E2 Instance Core running in Americas", 1, family="Network"),
    sku("E2 Instance Core running in Americas", 1, "mo"),
    sku("E2 Instance Core running in Americas", 0),
    sku("E2 Instance Core running in Americas", 1, usage="Commit1Yr"),
    sku("Commitment v1: E2 Cpu in Americas for 1 Year", 1, usage="Commit1Yr"),
    sku("Reserved E2 Instance Core running in Americas", 1),
    sku("N2 Sole Tenancy Instance Core running in Americas", 1),
    sku("N2D AMD Instance Core running in Americas", 1),
    sku("N1 Instance Core running in Americas", 1),
    sku("Sole Tenancy Premium for N1 Predefined Instance Core running in Americas", 1),
    sku("Nvidia L4 GPU attached to DWS Defined Duration VMs running in Americas", 1, group="GPU"),
    sku("Nvidia L4 Virtual Workstation GPU running in Americas", 1, group="GPU"),
    sku("Nvidia Tesla A100 80GB GPU running in Americas", 928_080_000, units="3", group="GPU"),
    # Spot by description, on demand by category, and the reverse.
    sku("Spot Preemptible E2 Instance Core running in Americas", 1),
    spot("E2 Instance Core running in Americas", 1),
    sku("SSD backed Local Storage", 80_000_000, "GiBy.mo", group="LocalSSD", family="Storage"),
    sku("A3 Instance Core running in Americas", 29_322_700),
    {**sku("E2 Instance Core running in Americas", 1), "pricingInfo": []},
]


@pytest.fixture
def site():
    """Start a server with five entries per page."""
    with Site(None) as site:
        site.skus = [*CONFUSING[:9], *PLAIN, *CONFUSING[9:]]

        def answer(query):
            at = int(query.get("pageToken", 0))
            more = at + 5 < len(site.skus)
            return 200, {"skus": site.skus[at : at + 5], "nextPageToken": str(at + 5) if more else ""}

        site.answer = answer
        yield site


def refresh(site, *types, regions=("us-central1",), **settings):
    return gcp.refresh(regions, types, url=site.url, **settings)


@pytest.mark.parametrize(
    ("kind", "micro", "spot_micro"),
    [
        ("e2-standard-2", 67_012, 24_000),
        ("n1-standard-1", 47_500, None),
        ("g2-standard-48", 4_001_568, 1_568_000),
        ("a2-highgpu-1g", 3_673_385, None),
    ],
)
def test_price_is_the_sum_of_its_parts(site, home, kind, micro, spot_micro):
    assert refresh(site, kind) == (home / "prices.csv", "")
    found = prices.price("gcp", "us-central1", kind)
    assert (found.per_hour_micro, found.spot_per_hour_micro) == (micro, spot_micro)
    assert re.fullmatch(r"GCP price API of \d{4}-\d\d-\d\d \d\d:\d\d UTC", found.source)
    # The sheet was computed in the same way.
    sheet = tables.bundled()[found.key]
    assert abs(found.per_hour_micro - sheet.per_hour_micro) <= 50
    assert (found.vcpus, found.gpus, found.gpu_model) == (sheet.vcpus, sheet.gpus, sheet.gpu_model)


def test_ambiguous_machines_keep_their_price_and_are_named(site):
    types = {price.instance_type for price in tables.bundled().values() if price.provider == "gcp"}
    _, kept = refresh(site, *types, regions=["us-central1", "europe-west4"])
    assert kept == (
        f"{KEEP}a2-highgpu in europe-west4, a2-ultragpu in europe-west4, a2-ultragpu in us-central1, "
        "a3-highgpu in us-central1, n1-standard in europe-west4, n2-standard in us-central1"
    )
    assert prices.price("gcp", "us-central1", "a3-highgpu-8g").source.startswith("sheet of ")
    assert {key[1] for key in tables.own_prices()} == {"us-central1"}
    message = raised(SeerError, refresh, site, "a3-highgpu-8g")
    assert message == f"GCP has no on-demand price for a3-highgpu-8g in us-central1: {KEEP}a3-highgpu in us-central1"


def test_two_rates_of_one_part_are_ambiguous(site):
    site.skus.append(PLAIN[0])
    assert refresh(site, "e2-standard-2").kept == ""
    site.skus.append(sku("E2 Instance Core running in Iowa", 30_000_000, regions=["us-central1"]))
    assert raised(SeerError, refresh, site, "e2-standard-2").endswith(f"{KEEP}e2-standard in us-central1")
    assert (
        refresh(site, "e2-standard-2", regions=["us-east1", "us-central1"]).kept == f"{KEEP}e2-standard in us-central1"
    )
    assert prices.price("gcp", "us-east1", "e2-standard-2").source.startswith("GCP")


def test_latest_and_highest_rate_counts(site):
    newer = sku("E2 Instance Core running in Americas", 0, units="1")
    newer["pricingInfo"][0]["pricingExpression"]["tieredRates"].insert(
        0, {"startUsageAmount": 0, "unitPrice": {"currencyCode": "USD", "units": "0"}}
    )
    newer["pricingInfo"].insert(0, PLAIN[0]["pricingInfo"][0])
    site.skus = [newer, *PLAIN[1:]]
    refresh(site, "e2-standard-2")
    assert prices.price("gcp", "us-central1", "e2-standard-2").per_hour_micro == 2_000_000 + 23_389


def test_shared_cores_and_other_gpus_are_ambiguous(site, home):
    home.mkdir()
    rows = ["gcp,us-west1,e2-medium,2,4,0,,0.0335", "gcp,us-west1,n1-highmem-2,2,13,1,T4,0.46"]
    (home / "prices.csv").write_text("\n".join([",".join(tables.COLUMNS), *rows, ""]))
    message = raised(SeerError, refresh, site, "e2-medium", "n1-highmem-2", regions=["us-west1"])
    assert message.endswith(f"{KEEP}e2-medium in us-west1, n1-highmem in us-west1")


def test_own_rows_are_not_replaced(site, home):
    home.mkdir()
    (home / "prices.csv").write_text(f"{','.join(tables.COLUMNS)}\ngcp,us-central1,e2-standard-2,2,8,0,,0.05\n")
    refresh(site, "e2-standard-2", "e2-standard-4")
    assert prices.price("gcp", "us-central1", "e2-standard-2").per_hour_micro == 50_000
    assert prices.price("gcp", "us-central1", "e2-standard-4").per_hour_micro == 134_023


def test_type_of_unknown_size_is_refused(site):
    message = raised(ValueError, refresh, site, "e2-standard-2", "z3-highmem-8")
    assert message.startswith("unknown size of z3-highmem-8, and GCP's price API does not return sizes: add a row")


@pytest.mark.parametrize("skus", [[], CONFUSING])
def test_nothing_is_written_without_parts(site, home, skus):
    site.skus = skus
    message = raised(SeerError, refresh, site, "e2-standard-2")
    assert message.startswith("GCP has no on-demand price for e2-standard-2 in us-central1: ")
    assert not home.exists()


@pytest.mark.parametrize(
    "answer",
    [
        *(answer for answer, _ in BAD),
        (200, {"skus": [{"skuId": "2E27-4F75-95CD"}]}),
        (200, {"skus": [sku("E2 Instance Core running in Americas", "much")]}),
        (200, {"skus": [sku("E2 Instance Core running in Americas", 0, units="-1")]}),
        (200, {"skus": None}),
    ],
)
def test_known_prices_are_kept_after_a_bad_response(site, home, answer):
    refresh(site, "e2-standard-2")
    before = (home / "prices.csv").read_bytes()
    site.answer = lambda query: answer
    message = raised(SeerError, refresh, site, "e2-standard-2")
    assert message.startswith("GCP returned no prices: ")
    assert message.endswith(gcp.ADVICE)
    assert "made-up" not in message
    assert (home / "prices.csv").read_bytes() == before


# --- credentials ---


@pytest.mark.parametrize("name", gcp.KEYS)
def test_api_key_is_used_and_is_not_in_the_url(site, monkeypatch, name):
    monkeypatch.delenv("GOOGLE_CLOUD_API_KEY")
    monkeypatch.setenv(name, "the key")
    refresh(site, "e2-standard-2")
    queries, headers = zip(*site.asked, strict=True)
    assert queries[0] == {"currencyCode": "USD", "pageSize": "5000"}
    assert [query["pageToken"] for query in queries[1:]] == [str(at) for at in range(5, len(site.skus), 5)]
    assert {one["x-goog-api-key"] for one in headers} == {"the key"}


def test_message_without_key_and_package_says_what_is_needed(monkeypatch, site):
    monkeypatch.delenv("GOOGLE_CLOUD_API_KEY")
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    monkeypatch.setitem(sys.modules, "google.auth", None)
    assert raised(SeerError, refresh, site, "e2-standard-2") == (
        "GCP prices need an API key in GOOGLE_CLOUD_API_KEY, or the package google-auth and a login: "
        'pip install "seer_nb[gcp]"'
    )
    assert site.asked == []


@pytest.fixture
def login(monkeypatch, tmp_path):
    """Return a function that writes a service account's login, with the URL of its token server."""
    pytest.importorskip("google.auth.transport.requests")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key = made.private_bytes(serialization.Encoding.PEM, pkcs8, plain).decode()
    monkeypatch.delenv("GOOGLE_CLOUD_API_KEY")
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    path = tmp_path / "login.json"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    monkeypatch.setenv("GOOGLE_CLOUD_QUOTA_PROJECT", "my-project")

    def write(token_url):
        account = {"type": "service_account", "client_email": "me@my-project.example", "private_key": key}
        path.write_text(json.dumps({**account, "project_id": "my-project", "token_uri": token_url}))

    return write


def test_login_is_used(site, login):
    with Site(lambda query: (200, {"access_token": "token", "expires_in": 3600, "token_type": "Bearer"})) as tokens:
        login(tokens.url)
        refresh(site, "e2-standard-2")
    assert {one["authorization"] for _, one in site.asked} == {"Bearer token"}
    assert {one["x-goog-user-project"] for _, one in site.asked} == {"my-project"}


def test_invalid_login_is_reported(site, login):
    message = "GCP prices need an API key in GOOGLE_CLOUD_API_KEY, or a login (gcloud auth application-default login): "
    assert raised(SeerError, refresh, site, "e2-standard-2").startswith(f"{message}File ")
    with Site(
        lambda query: (400, {"error": "invalid_grant", "error_description": "Token has been expired."})
    ) as tokens:
        login(tokens.url)
        assert "Token has been expired." in raised(SeerError, refresh, site, "e2-standard-2")
    assert site.asked == []


# --- the command ---


def test_command_refreshes_prices_and_names_those_kept(capsys, monkeypatch, site, home):
    monkeypatch.setattr(gcp, "refresh", partial(gcp.refresh, url=site.url))
    code = cli.main(["prices", "--refresh", "--provider", "gcp", "--region", "us-central1", "--type", "[ag]*-1g"])
    out, err = capsys.readouterr()
    assert (code, err) == (0, f"{KEEP}a2-ultragpu in us-central1\nwritten: {home}/prices.csv\n")
    rows = [line.split()[2:8] for line in out.splitlines()[1:]]
    assert rows == [
        ["a2-highgpu-1g", "12", "85", "1", "A100", "3.673385"],
        ["a2-ultragpu-1g", "12", "170", "1", "A100-80GB", "5.068798"],
    ]
