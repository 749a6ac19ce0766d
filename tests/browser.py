"""A browser without a window, driven by a test."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from sweeps.conftest import find_program


@contextmanager
def open_browser(profile: Path) -> Iterator[webdriver.Chrome]:
    """Opens a browser that asks nobody anything by itself.

    Args:
        profile: The folder for what it keeps.
    """
    options = webdriver.ChromeOptions()
    options.binary_location = find_program("chromium", "chromium")
    driver_program = find_program("chromedriver", "chromium-driver")
    for argument in (
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(driver_program))
    try:
        yield driver
    finally:
        driver.quit()
