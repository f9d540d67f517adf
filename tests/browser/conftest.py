"""The `lab` fixture: a real JupyterLab in a headless Chromium. What can be done with it stands in `lab.py`."""

import importlib.util
import sys
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
specification = importlib.util.spec_from_file_location("minigpt_browser_lab", HERE / "lab.py")
driver = importlib.util.module_from_spec(specification)
sys.modules[specification.name] = driver
specification.loader.exec_module(driver)


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=driver.chromium(playwright), args=driver.FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = driver.Server(tmp_path_factory.mktemp("lab"))
    yield server
    server.stop()


@pytest.fixture
def lab(server, browser):
    lab = driver.Lab(server, browser)
    yield lab
    lab.close()
    assert not lab.complaints, lab.complaints
