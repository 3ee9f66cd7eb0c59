"""Azure's present prices, from a local server with the format of the Retail Prices API."""

import re
from functools import partial

import pytest

from seer_nb.errors import SeerError
from seer_nb.providers import prices
from seer_nb.providers.prices import azure, tables
from seer_nb.ui import cli
from tests.providers.prices.test_refresh import BAD, Site
from tests.support.refusals import raised

D4 = "Standard_D4s_v5"
T4 = "Standard_NC4as_T4_v3"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SEER_HOME", str(tmp_path / "studies"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "studies"


def row(kind, usd, suffix="", product="Virtual Machines Dsv5 Series", region="eastus", **more):
    """Return a price in Azure's format."""
    name = kind.removeprefix("Standard_").replace("_", " ") + suffix
    return {
        "currencyCode": "USD",
        "tierMinimumUnits": 0.0,
        "retailPrice": usd,
        "unitPrice": usd,
        "armRegionName": region,
        "location": "US East",
        "effectiveStartDate": "2023-04-01T00:00:00Z",
        "meterId": "000a794b-bdb0-58be-a0cd-0c3a0f222923",
        "meterName": name,
        "productId": "DZH318Z0BQPS",
        "skuId": "DZH318Z0BQPS/00TG",
        "productName": product,
        "skuName": name,
        "serviceName": "Virtual Machines",
        "serviceId": "DZH313Z7MMC8",
        "serviceFamily": "Compute",
        "unitOfMeasure": "1 Hour",
        "type": "Consumption",
        "isPrimaryMeterRegion": True,
        "armSkuName": kind,
        **more,
    }


CONFUSING = [
    row(D4, 0.376, product="Virtual Machines Dsv5 Series Windows"),
    row(D4, 0.2, " Spot", product="Virtual Machines Dsv5 Series Windows"),
    row(D4, 0.376, product="Dsv5 Series CloudServices"),
    row(D4, 0.376, product="Dsv5 Series Cloud Services"),
    row(D4, 0.9, product="Dsv5 Series Dedicated Host"),
    row(D4, 0.0384, " Low Priority"),
    row(D4, 0.0384, skuName="D4s v5 Low Priority"),
    row(D4, 0.15, type="DevTestConsumption"),
    row(D4, 990.0, type="Reservation", reservationTerm="1 Year", unitOfMeasure="1 Hour"),
    row(D4, 140.0, unitOfMeasure="1/Month"),
    row(D4, 0.9, currencyCode="EUR"),
    row(D4, 0.0),
    row(D4, 0.5, region="westeurope"),
    row("Standard_D4_v5", 0.7),
    # Past and future prices.
    row(D4, 0.25, effectiveEndDate="2024-01-01T00:00:00Z"),
    row(D4, 0.26, effectiveStartDate="2099-01-01T00:00:00Z"),
    row(D4, 0.2, " Spot", effectiveStartDate="2099-01-01T00:00:00"),
]
PLAIN = [
    row(D4, 0.1920001, effectiveStartDate="2024-01-01T00:00:00"),
    row(D4, 0.038, " Spot", effectiveEndDate="2099-01-01T00:00:00Z"),
    row(T4, 0.526, product="Virtual Machines NCasT4_v3 Series"),
]


@pytest.fixture
def site():
    """Start a server that ignores filters, has two rows per page, and links pages by absolute URLs like Azure."""

    def page(items, after):
        link = f"https://prices.azure.com:443/api/retail/prices?currencyCode=USD&$filter=a eq 'b'&at={after}"
        return {
            "BillingCurrency": "USD",
            "CustomerEntityId": "Default",
            "CustomerEntityType": "Retail",
            "Items": items,
            "NextPageLink": link if after else None,
            "Count": len(items),
        }

    with Site(None) as site:
        site.rows = [*CONFUSING[:9], *PLAIN, *CONFUSING[9:]]
        site.pages(2, lambda query: site.rows, page)
        yield site


def refresh(site, *types, regions=("eastus",), **settings):
    return azure.refresh(regions, types or [D4, T4], url=site.url, **settings)


def test_plain_linux_rows_are_found_among_all_rows(site, home):
    assert refresh(site) == (home / "prices.csv", "")
    found = prices.price("azure", "eastus", D4)
    # Rounded up.
    assert (found.per_hour_micro, found.spot_per_hour_micro) == (192_001, 38_000)
    assert (found.vcpus, found.memory_gib, found.gpus) == (4, 16, 0)
    assert re.fullmatch(r"Azure price API of \d{4}-\d\d-\d\d \d\d:\d\d UTC", found.source)
    gpu = prices.price("azure", "eastus", T4)
    assert (gpu.per_hour_micro, gpu.spot_per_hour_micro, gpu.gpus, gpu.gpu_model) == (526_000, None, 1, "T4")
    assert prices.price("azure", "eastus2", D4).source.startswith("sheet of ")
    assert len(tables.own_prices()) == 2


def test_query_names_region_and_types(site):
    refresh(site)
    query, _ = site.asked[0]
    assert query == {
        "currencyCode": "USD",
        "$filter": "serviceName eq 'Virtual Machines' and armRegionName eq 'eastus' and priceType eq 'Consumption' and "
        f"(armSkuName eq '{D4}' or armSkuName eq '{T4}')",
    }
    # The next page is fetched from the same site, whatever the link.
    assert site.asked[1][0] == {"currencyCode": "USD", "$filter": "a eq 'b'", "at": "2"}
    assert len(site.asked) == len(site.rows) / 2


def test_many_types_are_split_into_several_queries(site):
    types = sorted({price.instance_type for price in tables.bundled().values() if price.provider == "azure"})
    assert len(types) > 10
    site.rows = [row(kind, 1.5) for kind in types]
    refresh(site, *types)
    assert len(tables.own_prices()) == len(types)
    filters = {query["$filter"] for query, _ in site.asked if "Virtual Machines" in query["$filter"]}
    assert len(filters) == 2


def test_quotation_mark_is_escaped_in_a_filter(site):
    site.rows = []
    raised(SeerError, refresh, site, regions=["east'us"])
    assert "armRegionName eq 'east''us'" in site.asked[0][0]["$filter"]


def test_sizes_of_types_are_taken_from_other_regions(site):
    site.rows = [row(D4, 0.2, region="uksouth")]
    refresh(site, regions=["uksouth", "eastus"])
    assert {key[1:] for key in tables.own_prices()} == {("uksouth", D4)}
    assert prices.price("azure", "uksouth", D4).vcpus == 4


def test_own_rows_are_not_replaced(site, home):
    home.mkdir()
    (home / "prices.csv").write_text(f"{','.join(tables.COLUMNS)}\nazure,eastus,{D4},4,16,0,,0.1\n")
    refresh(site)
    assert (prices.price("azure", "eastus", D4).per_hour_micro, prices.price("azure", "eastus", D4).source) == (
        100_000,
        "yours",
    )
    assert prices.price("azure", "eastus", T4).source.startswith("Azure")


def test_type_of_unknown_size_is_refused(site, home):
    message = raised(ValueError, refresh, site, "Standard_X1")
    assert message == (
        "unknown size of Standard_X1, and Azure's price API does not return sizes: "
        f"add a row for it to {home}/prices.csv"
    )
    assert site.asked == []


@pytest.mark.parametrize("rows", [[], CONFUSING])
def test_nothing_is_written_without_a_price(site, home, rows):
    site.rows = rows
    assert raised(SeerError, refresh, site, D4) == f"Azure has no on-demand price for {D4} in eastus"
    assert not home.exists()


@pytest.mark.parametrize(
    "answer",
    [
        *(answer for answer, _ in BAD),
        (200, {"Error": {"Code": "BadRequest"}}),
        (200, {"Items": [{"armSkuName": D4}]}),
        (200, {"Items": [row(D4, "much")]}),
        (200, {"Items": [row(D4, 1.0, effectiveStartDate="soon")]}),
        (200, {"Items": [], "NextPageLink": 3}),
    ],
)
def test_known_prices_are_kept_after_a_bad_response(site, home, answer):
    refresh(site)
    before = (home / "prices.csv").read_bytes()
    site.answer = lambda query: answer
    message = raised(SeerError, refresh, site)
    assert message.startswith("Azure returned no prices: ")
    assert message.endswith(
        "; known prices are kept; no credentials are needed, but prices.azure.com must be reachable"
    )
    assert (home / "prices.csv").read_bytes() == before


def command(monkeypatch, site, *arguments):
    monkeypatch.setattr(azure, "refresh", partial(azure.refresh, url=site.url))
    return cli.main(["prices", "--refresh", *arguments])


def test_command_refreshes_prices(capsys, monkeypatch, site, home):
    code = command(monkeypatch, site, "--provider", "azure", "--region", "eastus", "--type", "Standard_D4*")
    out, err = capsys.readouterr()
    assert (code, err) == (0, f"written: {home}/prices.csv\n")
    assert [line.split()[2:8] for line in out.splitlines()[1:]] == [[D4, "4", "16", "0", "0.192001", "0.038"]]


def test_command_queries_only_providers_that_have_the_machines(capsys, monkeypatch, site, home):
    """No other provider has such machines, so no other credentials are needed."""
    assert command(monkeypatch, site, "--type", "Standard_D4*", "--region", "eastus") == 0
    assert capsys.readouterr().err == f"written: {home}/prices.csv\n"


def test_command_reports_why_its_only_provider_failed(capsys, monkeypatch, site):
    site.answer = lambda query: (403, "")
    assert command(monkeypatch, site, "--provider", "azure") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"seer-nb: Azure returned no prices: HTTP 403 Forbidden; {azure.ADVICE}\n"


def test_credentials_for_one_provider_are_enough(capsys, monkeypatch, site, home):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "GOOGLE_CLOUD_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(home / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "none"))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(home / "none"))
    assert command(monkeypatch, site) == 0
    out, err = capsys.readouterr()
    aws, gcp, written = err.splitlines()
    assert aws.startswith("AWS was not refreshed: AWS returned no prices: Unable to locate credentials; ")
    assert gcp.startswith("GCP was not refreshed: GCP prices need an API key in GOOGLE_CLOUD_API_KEY, or ")
    assert written == f"written: {home}/prices.csv"
    assert len(out.splitlines()) == 1 + len(tables.all_prices())
    # No provider answers.
    site.answer = lambda query: (500, "")
    assert command(monkeypatch, site) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "seer-nb: no prices were refreshed"
