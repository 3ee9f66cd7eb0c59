"""Fakes of the clouds' Python packages, as far as dask-cloudprovider's classes use them."""

import base64
import importlib
import sys
from types import ModuleType, SimpleNamespace

HTTP_404 = 404


class NotThereError(Exception):
    status_code = HTTP_404


class FakeCloud:
    """The machines of a cloud that runs none."""

    def __init__(self):
        self.machines = {}
        """Arguments of each machine's creation, by name."""
        self.parts = {}
        """Azure's interfaces, addresses and disks, by kind and name."""
        self.refusal = None
        """Exception raised instead of creating a machine."""
        self.breaks = False
        """Whether creation fails after the machine exists."""
        self.undeletable = 0
        """Number of deletions that fail."""

    def make(self, name, size, user_data, **more):
        if self.refusal:
            raise self.refusal
        assert name not in self.machines
        self.machines[name] = SimpleNamespace(name=name, size=size, user_data=user_data, **more)
        if self.breaks:
            raise RuntimeError("creation failed late")

    def delete(self, name):
        if self.undeletable:
            self.undeletable -= 1
            raise RuntimeError("deletion failed")
        del self.machines[name]


def install(monkeypatch):
    """Replace the clouds' packages by fakes; return the cloud behind them."""
    fake_cloud = FakeCloud()
    for name, module in {
        **_google(fake_cloud),
        **_digitalocean(fake_cloud),
        **_hetzner(fake_cloud),
        **_openstack(fake_cloud),
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    for name, module in _azure(fake_cloud).items():
        monkeypatch.setitem(sys.modules, name, module)
    for cloud in ("gcp", "digitalocean", "hetzner", "openstack", "azure"):
        package = f"dask_cloudprovider.{cloud}"
        for name in [name for name in sys.modules if name.startswith(package)]:
            monkeypatch.delitem(sys.modules, name)
        importlib.import_module(package)
        for name in [name for name in sys.modules if name.startswith(package)]:
            monkeypatch.setitem(sys.modules, name, sys.modules[name])
    return fake_cloud


def _module(name, **content):
    module = ModuleType(name)
    vars(module).update(content)
    return module


def _google(fake_cloud):
    def instances():
        def does(act):
            return SimpleNamespace(execute=act)

        def insert(project, zone, body):
            items = {item["key"]: item["value"] for item in body["metadata"]["items"]}
            size = body["machineType"].rpartition("/")[2]
            return does(lambda: fake_cloud.make(body["name"], size, items["user-data"], body=body) or {"id": "1"})

        def found(project, zone, filter):  # noqa: A002 - Google's name for it
            named = [name for name in fake_cloud.machines if filter == f"name={name}"]
            interface = {"networkIP": "10.0.0.1", "accessConfigs": [{"natIP": "192.0.2.1"}]}
            items = [{"name": name, "status": "RUNNING", "networkInterfaces": [interface]} for name in named]
            return does(lambda: {"items": items} if items else {})

        def delete(project, zone, instance):
            return does(lambda: fake_cloud.delete(instance))

        return SimpleNamespace(insert=insert, list=found, delete=delete)

    build = lambda *_, **__: SimpleNamespace(instances=instances)  # noqa: E731
    auth = _module("google.auth", default=lambda *_: (None, "project"))
    discovery, errors = _module("googleapiclient.discovery", build=build), _module("errors", HttpError=RuntimeError)
    http = _module("googleapiclient.http")
    return {
        "google": _module("google", auth=auth),
        "google.auth": auth,
        "googleapiclient": _module("googleapiclient", discovery=discovery, errors=errors, http=http),
        "googleapiclient.discovery": discovery,
        "googleapiclient.errors": errors,
        "googleapiclient.http": http,
        "google_auth_httplib2": _module("google_auth_httplib2"),
        "httplib2": _module("httplib2"),
    }


def _digitalocean(fake_cloud):
    class Droplet:
        ip_address = "192.0.2.1"

        def __init__(self, name, **given):
            self.name, self.given = name, given

        def create(self):
            given = dict(self.given)
            fake_cloud.make(self.name, given.pop("size_slug"), given.pop("user_data"), body=given)

        def get_actions(self):
            return []

        def destroy(self):
            fake_cloud.delete(self.name)

    class Manager:
        def __init__(self, token):
            assert token == "secret"

        def get_all_droplets(self):
            return [Droplet(name) for name in fake_cloud.machines]

    return {"digitalocean": _module("digitalocean", Droplet=Droplet, Manager=Manager)}


def _hetzner(fake_cloud):
    def named(**given):
        return SimpleNamespace(**given)

    class Servers:
        def create(self, name, server_type, user_data, **more):
            fake_cloud.make(name, server_type.name, user_data, body=more)

        def get_by_name(self, name):
            public = SimpleNamespace(ipv4=SimpleNamespace(ip="192.0.2.1"))
            made = SimpleNamespace(name=name, get_actions=list, public_net=public)
            return made if name in fake_cloud.machines else None

        def delete(self, server):
            fake_cloud.delete(server.name)

    def client(token):
        assert token == "secret"
        return SimpleNamespace(servers=Servers())

    domains = {
        "images": {"Image": named},
        "server_types": {"ServerType": lambda name: named(name=name)},
        "actions": {"Action": named(STATUS_SUCCESS="success")},
        "locations": {"Location": named},
        "networks": {"Network": named},
        "firewalls": {"Firewall": named},
    }
    modules = {
        f"hcloud.{name}.domain": _module(f"hcloud.{name}.domain", **content) for name, content in domains.items()
    }
    packages = {name: SimpleNamespace(domain=modules[f"hcloud.{name}.domain"]) for name in domains}
    return {"hcloud": _module("hcloud", Client=client, **packages), **modules}


def _openstack(fake_cloud):
    def server(name):
        addresses = [
            {"OS-EXT-IPS:type": kind, "addr": at} for kind, at in (("fixed", "10.0.0.1"), ("floating", "192.0.2.1"))
        ]
        return SimpleNamespace(id=name, status="ACTIVE", addresses={"net": addresses})

    class Connection:
        def __init__(self, **given):
            assert given["application_credential_secret"] == "secret"
            find = lambda name: server(name) if name in fake_cloud.machines else None  # noqa: E731
            self.compute = SimpleNamespace(get_server=server, find_server=find, delete_server=fake_cloud.delete)

        def create_server(self, name, flavor, userdata, **more):
            fake_cloud.make(name, flavor, userdata, body=more)
            return server(name)

    connection = _module("openstack.connection", Connection=Connection)
    return {"openstack": _module("openstack", connection=connection), "openstack.connection": connection}


class _Parts:
    """Azure's interfaces, addresses or disks."""

    def __init__(self, fake_cloud, kind):
        self.parts, self.kind = fake_cloud.parts, kind

    def begin_create_or_update(self, group, name, body):
        address = SimpleNamespace(private_ip_address="10.0.0.1")
        made = SimpleNamespace(id=name, name=name, ip_address="192.0.2.1", ip_configurations=[address])
        self.parts[self.kind, name] = made
        return SimpleNamespace(result=lambda: made)

    def get(self, group, name):
        return _found(self.parts, (self.kind, name))

    def list(self, group, vnet):
        return [SimpleNamespace(id="subnet")]

    def list_by_resource_group(self, group):
        return [SimpleNamespace(name=name) for kind, name in list(self.parts) if kind == self.kind]

    def begin_delete(self, group, name):
        return SimpleNamespace(wait=lambda: self.parts.pop((self.kind, name), None))


class _AzureMachines:
    def __init__(self, fake_cloud):
        self.fake_cloud = fake_cloud

    def begin_create_or_update(self, group, name, body):
        user_data = base64.b64decode(body["os_profile"]["custom_data"]).decode()

        def wait():
            self.fake_cloud.make(name, body["hardware_profile"]["vm_size"], user_data, body=body)
            self.fake_cloud.parts["disk", f"{name}_OsDisk_1"] = None

        return SimpleNamespace(wait=wait)

    def get(self, group, name):
        return _found(self.fake_cloud.machines, name)

    def begin_delete(self, group, name):
        return SimpleNamespace(wait=lambda: self.fake_cloud.delete(name) if name in self.fake_cloud.machines else None)


def _azure(fake_cloud):
    def network(credential, subscription):
        groups = SimpleNamespace(get=lambda *_: SimpleNamespace(id="security group"))
        kinds = {"network_interfaces": "nic", "public_ip_addresses": "ip", "subnets": "subnet"}
        parts = {name: _Parts(fake_cloud, kind) for name, kind in kinds.items()}
        return SimpleNamespace(network_security_groups=groups, **parts)

    def compute(credential, subscription):
        return SimpleNamespace(virtual_machines=_AzureMachines(fake_cloud), disks=_Parts(fake_cloud, "disk"))

    return {
        "azure": _module("azure"),
        "azure.mgmt": _module("azure.mgmt"),
        "azure.mgmt.network": _module("azure.mgmt.network", NetworkManagementClient=network),
        "azure.mgmt.compute": _module("azure.mgmt.compute", ComputeManagementClient=compute),
        "azure.identity": _module("azure.identity", DefaultAzureCredential=object),
    }


def _found(where, name):
    if name not in where:
        raise NotThereError(name)
    return where[name]
