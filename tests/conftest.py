"""For all tests."""


def pytest_collection_modifyitems(items):
    """What takes longest begins first: at the end, one process would be left alone with it."""
    items.sort(key=lambda item: item.path.name != "test_notebooks.py")
