"""AWS's present prices: the price list from a local HTTP server, spot prices from moto."""

import json
import re
import sys
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from moto.server import ThreadedMotoServer

from seer_nb.errors import SeerError
from seer_nb.providers import prices
from seer_nb.providers.prices import aws
from seer_nb.ui import cli
from tests.support.refusals import raised

OURS = """\
# ours
provider,region,instance_type,vcpus,memory_gib,gpus,gpu_model,usd_per_hour
aws,us-east-1,m5.large,2,8,0,,0.07
aws,us-east-1,t3.small,2,2,0,,0.011
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SEER_HOME", str(tmp_path / "studies"))
    return tmp_path / "studies"


def product(kind, usd, vcpu="4", memory="16 GiB", **attributes):
    """Return an entry of a price list in AWS's format."""
    sku = f"SKU{kind.replace('.', '').upper()}"
    dimension = {
        "unit": "Hrs",
        "description": f"${usd} per On Demand Linux {kind} Instance Hour",
        "rateCode": f"{sku}.JRTCKXETXF.6YS6EN2CT7",
        "beginRange": "0",
        "endRange": "Inf",
        "appliesTo": [],
        "pricePerUnit": {"USD": usd},
    }
    term = {
        "priceDimensions": {f"{sku}.JRTCKXETXF.6YS6EN2CT7": dimension},
        "sku": sku,
        "effectiveDate": "2026-11-01T00:00:00Z",
        "offerTermCode": "JRTCKXETXF",
        "termAttributes": {},
    }
    described = {"instanceType": kind, "vcpu": vcpu, "memory": memory, "operatingSystem": "Linux", **attributes}
    return {
        "product": {"productFamily": "Compute Instance", "attributes": described, "sku": sku},
        "serviceCode": "AmazonEC2",
        "terms": {"OnDemand": {f"{sku}.JRTCKXETXF": term}, "Reserved": {}},
        "version": "20261101000000",
        "publicationDate": "2026-11-01T00:00:00Z",
    }


class PriceLists(ThreadingHTTPServer):
    """AWS's price list service for one region, on loopback."""

    def __init__(self, region, products, refusal=None):
        super().__init__(("127.0.0.1", 0), Answer)
        self.region = region
        self.products = products
        self.refusal = refusal
        self.asked = []


class Answer(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.headers["X-Amz-Target"], self.headers["Authorization"], asked))
        if self.server.refusal:
            self._send(400, {"__type": self.server.refusal, "Message": "not authorized"})
            return
        wanted = {entry["Field"]: entry["Value"] for entry in asked["Filters"]}
        found = [json.dumps(one) for one in self.server.products.get(wanted["instanceType"], [])]
        found = found if wanted["regionCode"] == self.server.region else []
        # A page holds one entry.
        at = int(asked.get("NextToken", 0))
        page = {"FormatVersion": "aws_v1", "PriceList": found[at : at + 1]}
        self._send(200, page | ({"NextToken": str(at + 1)} if at + 1 < len(found) else {}))

    def _send(self, code, content):
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture(autouse=True)
def credentials(monkeypatch, tmp_path):
    """Set made-up credentials, and hide all others."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def price_lists(monkeypatch):
    servers = []

    def start(region="us-east-1", refusal=None, **products):
        server = PriceLists(region, {kind.replace("_", "."): found for kind, found in products.items()}, refusal)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_PRICING", f"http://127.0.0.1:{server.server_port}")
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def ec2(monkeypatch):
    """Start moto's EC2; all its spot machines cost $0.00001."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", f"http://{host}:{port}")
    yield
    server.stop()


def test_on_demand_prices_are_fetched(price_lists):
    server = price_lists(
        t3_micro=[product("t3.micro", "0.0104000000", vcpu="2", memory="1 GiB")],
        p4d_24xlarge=[
            # Reserved capacity, which is billed otherwise, has the price 0 here.
            product("p4d.24xlarge", "0.0000000000", vcpu="96", memory="1,152 GiB", gpu="8"),
            product("p4d.24xlarge", "21.9576420001", vcpu="96", memory="1,152 GiB", gpu="8"),
        ],
    )
    micro, large = aws.on_demand("us-east-1", ["t3.micro", "p4d.24xlarge", "m99.huge"])
    assert (micro.key, micro.per_hour_micro) == (("aws", "us-east-1", "t3.micro"), 10_400)
    assert (micro.vcpus, micro.memory_gib, micro.gpus, micro.gpu_model) == (2, 1.0, 0, "")
    # Rounded up.
    assert (large.per_hour_micro, large.vcpus, large.memory_gib) == (21_957_643, 96, 1152.0)
    assert (large.gpus, large.gpu_model) == (8, "A100")
    assert re.fullmatch(r"AWS price API of \d{4}-\d\d-\d\d \d\d:\d\d UTC", micro.source)
    targets, signatures, asked = zip(*server.asked, strict=True)
    assert set(targets) == {"AWSPriceListService.GetProducts"}
    assert all("/us-east-1/pricing/aws4_request" in signature for signature in signatures)
    assert {entry["Field"]: entry["Value"] for entry in asked[0]["Filters"]} == {
        "instanceType": "t3.micro",
        "regionCode": "us-east-1",
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
    }


def test_spot_prices_are_fetched(ec2):
    found = aws.spot("us-east-1", ["t3.micro", "g4dn.xlarge"])
    assert set(found) == {"t3.micro", "g4dn.xlarge"}
    assert {zone[:-1] for zones in found.values() for zone in zones} == {"us-east-1"}
    assert {price for zones in found.values() for price in zones.values()} == {10}


class SpotHistory(BaseHTTPRequestHandler):
    """EC2 with prices at several times, and a local zone."""

    ENTRIES = (
        ("us-east-1a", "0.20", "2026-11-25T10:00:00.000Z"),
        ("us-east-1a", "0.15", "2026-11-25T11:00:00.000Z"),
        ("us-east-1b", "0.1600001", "2026-11-25T09:00:00.000Z"),
        ("us-east-1-bos-1a", "0.90", "2026-11-25T11:00:00.000Z"),
    )

    def do_POST(self):
        self.server.asked.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        items = "".join(
            f"<item><instanceType>g4dn.xlarge</instanceType><productDescription>Linux/UNIX</productDescription>"
            f"<spotPrice>{usd}</spotPrice><timestamp>{at}</timestamp><availabilityZone>{zone}</availabilityZone></item>"
            for zone, usd, at in self.ENTRIES
        )
        name = "DescribeSpotPriceHistoryResponse"
        space = "http://ec2.amazonaws.com/doc/2016-11-15/"
        body = (
            f'<{name} xmlns="{space}"><spotPriceHistorySet>{items}</spotPriceHistorySet><nextToken/></{name}>'.encode()
        )
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def test_newest_spot_price_of_each_zone_counts(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), SpotHistory)
    server.asked = []
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", f"http://127.0.0.1:{server.server_port}")
    try:
        found = aws.spot("us-east-1", ["g4dn.xlarge"])
    finally:
        server.shutdown()
        server.server_close()
    assert found == {"g4dn.xlarge": {"us-east-1a": 150_000, "us-east-1b": 160_001}}
    assert "ProductDescription.1=Linux%2FUNIX" in server.asked[0]
    assert f"StartTime={datetime.now(UTC):%Y-%m-}" in server.asked[0]


def test_refreshed_prices_are_written_and_own_rows_kept(price_lists, ec2, home):
    home.mkdir()
    (home / "prices.csv").write_text(OURS)
    price_lists(
        t3_micro=[product("t3.micro", "0.0110000000", vcpu="2", memory="1 GiB")],
        t3_small=[product("t3.small", "0.0220000000", vcpu="2", memory="2 GiB")],
    )
    assert aws.refresh(["us-east-1"], ["t3.micro", "t3.small"]) == (home / "prices.csv", "")
    micro = prices.price("aws", "us-east-1", "t3.micro")
    assert (micro.per_hour_micro, micro.spot_per_hour_micro) == (11_000, 10)
    assert micro.source.startswith("AWS price API of ")
    assert prices.price("aws", "us-east-1", "t3.small").source == "yours"
    assert prices.price("aws", "us-east-1", "m5.large").per_hour_micro == 70_000
    assert (home / "prices.csv").read_text().startswith("# ours\nprovider,")
    # Another refresh replaces what it fetches and keeps the rest.
    price_lists("eu-west-1", t3_micro=[product("t3.micro", "0.0114000000", vcpu="2", memory="1 GiB")])
    aws.refresh(["eu-west-1", "us-east-1"], ["t3.micro"])
    assert prices.price("aws", "us-east-1", "t3.micro") == micro
    assert prices.price("aws", "eu-west-1", "t3.micro").per_hour_micro == 11_400
    frame = prices.sheet("aws").set_index(["region", "instance_type"])
    assert frame.loc[("eu-west-1", "t3.micro"), "spot_usd_per_hour"] == 0.00001
    assert [path.name for path in home.iterdir()] == ["prices.csv"]


def test_nothing_is_written_without_a_price(price_lists, home):
    price_lists()
    message = "AWS has no on-demand price for m99.huge in us-east-1"
    assert raised(SeerError, aws.refresh, ["us-east-1"], ["m99.huge"]) == message
    assert not home.exists()


def test_message_about_a_refusal_names_the_needed_permission(price_lists, home):
    price_lists(refusal="AccessDeniedException")
    message = raised(SeerError, aws.refresh, ["us-east-1"], ["t3.micro"])
    assert "AccessDeniedException" in message
    assert message.endswith(
        "check the region us-east-1, and that your credentials allow pricing:GetProducts "
        "(seer-nb iam-policy ec2 prints all permissions)"
    )
    assert not home.exists()


def test_missing_credentials_are_reported(monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert raised(SeerError, aws.spot, "us-east-1", ["t3.micro"]).startswith(
        "AWS returned no prices: Unable to locate credentials; "
    )


def test_invalid_region_is_reported():
    assert raised(SeerError, aws.spot, "us east 1", ["t3.micro"]).startswith("AWS returned no prices: ")


def test_message_about_missing_botocore_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    message = 'AWS prices need the package botocore, which is not installed: pip install "seer_nb[aws]"'
    assert raised(SeerError, aws.on_demand, "us-east-1", ["t3.micro"]) == message


def test_command_refreshes_prices(capsys, price_lists, ec2, home):
    price_lists(g5_xlarge=[product("g5.xlarge", "1.0000000000", gpu="1")], g7_huge=[product("g7.huge", "9", gpu="1")])
    code = cli.main(["prices", "--refresh", "--region", "us-east-1", "--type", "g5.*"])
    out, err = capsys.readouterr()
    assert (code, err) == (0, f"written: {home}/prices.csv\n")
    rows = [line.split() for line in out.splitlines()[1:]]
    assert [row[2:9] for row in rows if "API" in row] == [["g5.xlarge", "4", "16", "1", "A10G", "1", "0.00001"]]
    assert len(rows) == 4
    # A type that is not in the sheet can be fetched by its name.
    code = cli.main(["prices", "--refresh", "--region", "us-east-1", "--type", "g7.huge"])
    out, _ = capsys.readouterr()
    assert (code, out.splitlines()[1].split()[2]) == (0, "g7.huge")
