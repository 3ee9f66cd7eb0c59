"""Made-up credentials for clouds other than EC2."""

import pytest

from tests.providers.cloud_kinds import CREDENTIALS


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
