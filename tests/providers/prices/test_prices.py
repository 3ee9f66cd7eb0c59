"""Prices of machines: the shipped sheet, the user's own rows, and billing rules."""

import math
import re
from collections import defaultdict
from datetime import date

import pytest

from seer_nb.core.money import BillingRule, Offer
from seer_nb.errors import UntrustedError
from seer_nb.providers import prices
from seer_nb.providers.prices import tables
from seer_nb.ui import cli
from tests.support.refusals import raised

HEAD = ",".join(tables.COLUMNS)
DATE = re.fullmatch(r"sheet of (\d{4}-\d\d-\d\d)", next(iter(tables.bundled().values())).source)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SEER_HOME", str(tmp_path / "studies"))
    return tmp_path / "studies"


def own(home, *lines, head=HEAD):
    """Write the user's prices.csv."""
    home.mkdir(exist_ok=True)
    (home / "prices.csv").write_text("\n".join([head, *lines, ""]), "utf-8")


# --- the sheet ---


def test_sheet_is_dated_and_has_the_main_machine_types():
    date.fromisoformat(DATE[1])
    rows = tables.bundled().values()
    families = defaultdict(set)
    for row in rows:
        families[row.provider].add(re.split(r"[.\-\d]", row.instance_type)[0])
    assert set(families) == {"aws", "gcp", "azure", "digitalocean"}
    assert {"t", "m", "c", "g", "p"} <= families["aws"]
    assert {row.region for row in rows if row.provider == "aws"} == {
        *("us-east-1", "us-west-2", "eu-west-1", "eu-central-1", "ap-northeast-1"),
    }
    assert len(rows) > 250


def test_each_type_has_one_size_and_a_plausible_price():
    sizes = defaultdict(set)
    for row in tables.bundled().values():
        sizes[row.provider, row.instance_type].add((row.vcpus, row.memory_gib, row.gpus, row.gpu_model))
        # An hour of a CPU costs 0.1 to 10 cents, an hour of a GPU 35 cents to 15 dollars.
        cpus = row.usd_per_hour / row.vcpus
        assert 0.001 < cpus < (0.1 if not row.gpus else 1), row
        assert not row.gpus or 0.35 < row.usd_per_hour / row.gpus < 15, row
        assert bool(row.gpus) == bool(row.gpu_model), row
        assert 0.5 <= row.memory_gib / row.vcpus <= 16, row
    assert [kind for kind, found in sizes.items() if len(found) > 1] == []


def test_prices_of_a_type_are_similar_in_all_regions():
    """Guards against a typing error: the regions of a type differ by less than a half."""
    of = defaultdict(list)
    for row in tables.bundled().values():
        of[row.provider, row.instance_type].append(row.per_hour_micro)
    assert [kind for kind, found in of.items() if max(found) > 1.5 * min(found)] == []


@pytest.mark.parametrize(
    ("machine", "usd", "size"),
    [
        (("aws", "us-east-1", "m5.large"), 0.096, (2, 8, 0, "")),
        (("aws", "eu-central-1", "g5.xlarge"), 1.25801, (4, 16, 1, "A10G")),
        (("aws", "us-west-2", "p5.48xlarge"), 55.04, (192, 2048, 8, "H100")),
        (("gcp", "us-central1", "n1-standard-1"), 0.0475, (1, 3.75, 0, "")),
        (("azure", "eastus", "Standard_NC4as_T4_v3"), 0.526, (4, 28, 1, "T4")),
        (("digitalocean", "tor1", "gpu-h100x8-640gb"), 23.92, (160, 1920, 8, "H100")),
    ],
)
def test_price_is_looked_up(machine, usd, size):
    found = prices.price(*machine)
    assert found.key == machine
    assert (found.usd_per_hour, found.per_hour_micro) == (usd, round(usd * 1e6))
    assert (found.vcpus, found.memory_gib, found.gpus, found.gpu_model) == size
    assert (found.source, found.spot_per_hour_micro) == (DATE[0], None)


# --- unknown prices ---


@pytest.mark.parametrize(
    ("machine", "near"),
    [
        (("aws", "us-east-1", "g5.xlrge"), "similar types: g5.xlarge, "),
        (("azure", "eastus", "standard_d4s_v5"), "similar types: Standard_D4s_v5, "),
        (("aws", "us-west-2", "quantum"), "similar types: "),
        (("aws", "eu-west-1", "p5.48xlarge"), "known in us-east-1, us-west-2"),
        (("aws", "us-est-1", "m7.huge"), "regions with prices: us-east-1, "),
        (("hetzner", "fsn1", "cx23"), "no prices of this provider are known"),
    ],
)
def test_message_about_an_unknown_machine_suggests_similar_ones(machine, near, home):
    message = raised(ValueError, prices.price, *machine)
    provider, region, kind = machine
    start = f"instance_type={kind!r}: no price is known in region={region!r} of {provider} ({near}"
    assert message.startswith(start)
    assert message.endswith(
        f"); add a row to {home}/prices.csv with the columns {HEAD}, or give price_per_hour= to the provider"
    )


def test_provider_without_prices_is_refused():
    known = "'aws', 'gcp', 'azure', 'digitalocean', 'hetzner'"
    message = f"provider='ibm': no prices are known; expected one of {known}"
    assert raised(ValueError, prices.price, "ibm", "x", "y") == message
    assert raised(ValueError, prices.sheet, "ibm") == message
    assert raised(ValueError, prices.billing_rule, "ibm") == message


@pytest.mark.parametrize("machine", [(1, "r", "t"), ("aws", None, "t"), ("aws", "us-east-1", ["t3.micro"])])
def test_arguments_that_are_not_text_are_refused(machine):
    assert raised(TypeError, prices.price, *machine).endswith(": not text; expected a name as the provider writes it")


# --- the user's own prices ---


def test_own_prices_override_and_extend_the_sheet(home):
    own(home, "aws,us-east-1,m5.large,2,8,0,,0.07", "hetzner,fsn1,cx23,2,4,,,0.0080001")
    mine = prices.price("aws", "us-east-1", "m5.large")
    assert (mine.per_hour_micro, mine.source) == (70_000, "yours")
    assert prices.price("aws", "us-east-1", "m5.xlarge").source == DATE[0]
    # Rounded up: a budget must not be planned with too low a price.
    new = prices.price("hetzner", "fsn1", "cx23")
    assert (new.per_hour_micro, new.gpus) == (8_001, 0)


def test_own_prices_may_have_comments_spaces_and_another_column_order(home):
    own(
        home,
        "# what we pay",
        "",
        ' 0.5 , us-east-1, aws , "m5.large" , 2, 8',
        head="\ufeffusd_per_hour,region,provider,instance_type,vcpus,memory_gib,gpus,gpu_model,remark",
    )
    assert prices.price("aws", "us-east-1", "m5.large").per_hour_micro == 500_000


def test_empty_prices_csv_is_valid(home):
    home.mkdir()
    (home / "prices.csv").write_text("# none yet\n")
    assert prices.price("aws", "us-east-1", "m5.large").source == DATE[0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("ibm,r,t,2,8,0,,1", "provider='ibm'; expected one of aws, gcp, azure, digitalocean, hetzner"),
        ("aws,,t,2,8,0,,1", "region=''; expected the name of a region"),
        ("aws,r,,2,8,0,,1", "instance_type=''; expected the name of a machine type"),
        ("aws,r,t,0,8,0,,1", "vcpus='0'; expected an integer >= 1"),
        ("aws,r,t,2.5,8,0,,1", "vcpus='2.5'; expected an integer >= 1"),
        ("aws,r,t,99999999999,8,0,,1", "vcpus='99999999999'; expected an integer >= 1"),
        ("aws,r,t,2,0,0,,1", "memory_gib='0'; expected a number > 0"),
        ("aws,r,t,2,nan,0,,1", "memory_gib='nan'; expected a number > 0"),
        ("aws,r,t,2,8,-1,,1", "gpus='-1'; expected an integer >= 0, or nothing"),
        ("aws,r,t,2,8,0,,", "usd_per_hour=''; expected a number of dollars such as 0.526"),
        ("aws,r,t,2,8,0,,$1", "usd_per_hour='$1'; expected a number of dollars such as 0.526"),
        ("aws,r,t,2,8,0,,-1", "usd_per_hour='-1'; expected a number of dollars such as 0.526"),
        ("aws,r,t,2,8,0,,inf", "usd_per_hour='inf'; expected a number of dollars such as 0.526"),
        ("aws,r,t,2,8,0,,1e13", "usd_per_hour='1e13'; expected a number of dollars such as 0.526"),
    ],
)
def test_message_about_an_invalid_row_names_its_line(row, message, home):
    own(home, "aws,us-east-1,m5.large,2,8,0,,0.07", row)
    assert raised(ValueError, prices.price, "aws", "us-east-1", "m5.large") == f"{home}/prices.csv, line 3: {message}"


def test_duplicate_price_and_missing_column_are_refused(home):
    own(home, "aws,r,t,2,8,0,,1", "aws,r,t,2,8,0,,2")
    message = f"{home}/prices.csv, line 3: second price for aws r t; expected one"
    assert raised(ValueError, prices.sheet) == message
    own(home, "aws,r,t", head="provider,region,instance_type")
    message = f"{home}/prices.csv: no column vcpus; expected {HEAD.replace(',', ', ')} in the first line"
    assert raised(ValueError, prices.sheet) == message


def test_sheet_is_a_data_frame(home):
    own(home, "aws,us-east-1,m5.large,2,8,0,,0.07")
    frame = prices.sheet()
    assert list(frame.columns) == [*tables.COLUMNS, "spot_usd_per_hour", "source"]
    assert len(frame) == len(tables.bundled())
    assert frame["spot_usd_per_hour"].isna().all()
    one = prices.sheet("aws", "us-east-1").set_index("instance_type").loc["m5.large"]
    assert (one["usd_per_hour"], one["source"]) == (0.07, "yours")
    assert set(prices.sheet("gcp")["provider"]) == {"gcp"}
    assert set(prices.sheet(region="eastus")["region"]) == {"eastus"}
    assert prices.sheet("gcp", "nowhere").empty


def test_written_prices_are_read_back(home):
    written = [*tables.bundled().values()]
    tables.write(written)
    assert [(row.key, row.per_hour_micro, row.memory_gib, row.source) for row in tables.own_prices().values()] == [
        (row.key, row.per_hour_micro, row.memory_gib, row.source) for row in written
    ]
    assert [path.name for path in home.iterdir()] == ["prices.csv"]


# --- billing ---


def test_each_provider_rounds_time_by_its_own_rule():
    for provider in ("aws", "gcp", "azure", "digitalocean"):
        rule = prices.billing_rule(provider)
        assert (rule.billed_s(1), rule.billed_s(60.5)) == (60, 61)
    hourly = prices.billing_rule("hetzner")
    assert (hourly.billed_s(1), hourly.billed_s(3601)) == (3600, 7200)


@pytest.mark.parametrize("per_hour", [1, 7, 8_930, 9_999, 10_000, 71_430, 600_000, 600_001, 3_390_000])
def test_droplet_costs_at_least_a_cent(per_hour):
    rule = prices.billing_rule("digitalocean", per_hour)
    bill = Offer(name="droplet", price_per_hour_micro=per_hour, billing=rule).bill(1)
    assert bill == max(10_000, math.ceil(per_hour / 60)) or 10_000 <= bill < 10_000 + per_hour / 3600 + 1
    assert prices.billing_rule("aws", per_hour) == BillingRule(minimum_s=60)


@pytest.mark.parametrize(
    ("provider", "region", "disk_gb", "address", "micro"),
    [
        ("aws", "us-east-1", 100, False, math.ceil(8_000_000 / 672)),
        ("aws", "us-east-1", 100, True, math.ceil(8_000_000 / 672) + 5_000),
        ("aws", "eu-central-1", 40, False, math.ceil(40 * 95_200 / 672)),
        ("aws", "us-east-1", 0.5, False, math.ceil(80_000 / 672)),
        ("gcp", "europe-west4", 50, True, math.ceil(50 * 110_000 / 672) + 5_000),
        # Disks are sold by size: 50 GB are billed as 64.
        ("azure", "eastus", 50, False, math.ceil(64 * 165_000 / 672)),
        ("digitalocean", "nyc3", 500, True, 0),
        ("hetzner", "fsn1", 500, False, 0),
        ("aws", "us-east-1", 0, False, 0),
        ("azure", "eastus", 0, True, 5_000),
    ],
)
def test_disk_and_address_have_a_surcharge(provider, region, disk_gb, address, micro):
    assert prices.surcharge_per_hour_micro(provider, region, disk_gb, public_address=address) == micro


@pytest.mark.parametrize("provider", ["aws", "gcp", "azure"])
def test_disk_in_an_unknown_region_has_a_high_price(provider):
    known = {row.region for row in tables.bundled().values() if row.provider == provider}
    unknown = prices.surcharge_per_hour_micro(provider, "moon-1", 100, public_address=False)
    assert unknown >= max(
        prices.surcharge_per_hour_micro(provider, region, 100, public_address=False) for region in known
    )


@pytest.mark.parametrize("size", [-1, math.nan, math.inf, "40", True, None])
def test_invalid_disk_size_is_refused(size):
    message = raised(ValueError, prices.surcharge_per_hour_micro, "aws", "us-east-1", size, public_address=True)
    assert message == f"disk_gb={size!r}: not a disk size; expected a number of GB >= 0"


# --- the command ---


def run_command(capsys, *arguments):
    code = cli.main(["prices", *arguments])
    return code, *capsys.readouterr()


def test_command_lists_prices(capsys):
    code, out, err = run_command(capsys, "--provider", "aws", "--region", "us-east-1", "--type", "g5.*")
    assert (code, err) == (0, "")
    head, *rows = (line.split() for line in out.splitlines())
    # Spot prices are not known, so there is no column for them.
    assert head == [*HEAD.split(","), "source"]
    assert [row[2] for row in rows] == ["g5.xlarge", "g5.2xlarge", "g5.12xlarge", "g5.48xlarge"]
    assert rows[0] == ["aws", "us-east-1", "g5.xlarge", "4", "16", "1", "A10G", "1.006", *DATE[0].split()]
    assert len(run_command(capsys)[1].splitlines()) == 1 + len(tables.bundled())


def test_command_suggests_similar_machines(capsys):
    code, out, err = run_command(capsys, "--provider", "aws", "--region", "us-east-1", "--type", "g5.xlrge")
    assert (code, out) == (1, "")
    assert err.startswith(
        "seer-nb: instance_type='g5.xlrge': no price is known in region='us-east-1' of aws (similar types: "
    )
    message = "seer-nb: no price is known for --region nowhere; seer-nb prices without options lists all known prices\n"
    assert run_command(capsys, "--region", "nowhere") == (1, "", message)


def test_command_refuses_to_refresh_a_provider_without_a_price_api(capsys):
    message = "seer-nb: --provider=hetzner: has no price API to refresh from; expected aws, azure, gcp\n"
    assert run_command(capsys, "--refresh", "--provider", "hetzner") == (1, "", message)


@pytest.mark.parametrize("how", ["owner", "mode"])
def test_prices_that_another_user_may_have_written_are_not_trusted(home, monkeypatch, how):
    """Guards against overspending by a file that another user has written."""
    own(home, "aws,us-east-1,p4d.24xlarge,96,1152,8,A100,0.01")
    if how == "owner":
        monkeypatch.setattr("os.geteuid", lambda: 4242)
    else:
        (home / "prices.csv").chmod(0o666)
    with pytest.raises(UntrustedError, match=r"prices\.csv (belongs to|can be written)"):
        prices.price("aws", "us-east-1", "p4d.24xlarge")


def test_prices_that_the_users_own_group_may_write_are_trusted(home):
    own(home, "aws,us-east-1,p4d.24xlarge,96,1152,8,A100,0.01")
    (home / "prices.csv").chmod(0o664)
    assert prices.price("aws", "us-east-1", "p4d.24xlarge").per_hour_micro == 10_000
