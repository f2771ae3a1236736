"""A headless Chromium for tests of pages: the system's own, driven by Playwright."""

import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser():
    """Return a browser; skip the test where Playwright or a browser is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    with playwright.sync_playwright() as api:
        browser = api.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Return a function that opens a file and returns the page and a list of its errors, messages and requests."""
    contexts = []

    def open_file(path, **options):
        contexts.append(browser.new_context(**options))
        page, events = contexts[-1].new_page(), []
        page.on("pageerror", lambda error: events.append(f"error: {error}"))
        page.on("console", lambda message: events.append(f"console: {message.text}"))
        page.on("request", lambda request: events.append(f"request: {request.url}"))
        page.goto(path.as_uri())
        return page, events

    yield open_file
    for context in contexts:
        context.close()
