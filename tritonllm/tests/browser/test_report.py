"""The reports of a sweep and of tuning in a real browser: complete without a network, readable in both colour schemes and on a phone."""

from __future__ import annotations

import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

import measured
import tuned
from tritonllm.bench import report
from tritonllm.tuning import reasons, trials
from tritonllm.tuning import report as tuning_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"))), None)  # fmt: skip

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium is installed (Debian: apt-get install chromium-headless-shell)"
)

# Where to keep pictures of the report, to look at them.
PICTURES = os.environ.get("TRITONLLM_PICTURES")

SCREENS: dict[str, dict[str, Any]] = {
    "desktop-light": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"},
    "desktop-dark": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 640}, "is_mobile": True, "color_scheme": "light"},
}
SWEEPS = {
    "line": [measured.result(2**n) for n in range(9)],
    "grid": [measured.result(2**n, max_tokens=length) for n in range(8) for length in (32, 128, 512)],
    "rates": [measured.result(request_rate=rate) for rate in (2.0, 5.0, 10.0, 15.0, 20.0, 30.0)],
}


def _tuned() -> str:
    task = tuned.task(tuned.SPACE)
    found: list[trials.Trial] = []
    for sequences in (16, 8, 32, 64, 128, 256):
        for batched in (None, 4096, 8192):
            values = dict(zip(tuned.BEST, (sequences, batched), strict=True))
            try:
                results = tuned.attempt(task.text(values), pathlib.Path())
                found.append(trials.measured(len(found), values, results, task.wanted, task.limited))
            except reasons.Unusable as error:
                found.append(trials.Trial(len(found), values, error.outcome, str(error)))
    importances = dict(zip(tuned.BEST, (0.8, 0.2), strict=True))
    return tuning_report.to_html(
        "Tuning of chat", task.shown, found, task.axes, task.wanted, task.limited, importances
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # No sandbox: tests run as root in containers.
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.mark.parametrize("sweep", SWEEPS)
@pytest.mark.parametrize("screen", SCREENS)
def test_a_report_can_be_read_without_a_network(
    browser: Browser, tmp_path: pathlib.Path, screen: str, sweep: str
) -> None:
    settings = {"target": "http://localhost:8080", "model": "chat", "seed": "0"}
    text = report.to_html("Sweep of chat", settings, SWEEPS[sweep])
    page = _looked_at(browser, tmp_path, screen, text, f"report-{sweep}")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sweep of chat")
    assert page.get_by_role("img").count() >= 6
    page.context.close()


@pytest.mark.parametrize("screen", SCREENS)
def test_a_report_of_tuning_can_be_read_without_a_network(
    browser: Browser, tmp_path: pathlib.Path, screen: str
) -> None:
    page = _looked_at(browser, tmp_path, screen, _tuned(), "tuning")
    expect(page.get_by_role("heading", level=1)).to_have_text("Tuning of chat")
    assert page.get_by_role("img").count() == 3
    page.context.close()


def _looked_at(browser: Browser, folder: pathlib.Path, screen: str, text: str, picture: str) -> Page:
    """Opens a report, and checks what is promised of every one."""
    file = folder / "report.html"
    file.write_text(text)
    context = browser.new_context(**SCREENS[screen])
    page = context.new_page()
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto(file.as_uri())
    assert requested == [file.as_uri()]
    # Only the table may be wider than the screen, and scrolls by itself.
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    if PICTURES:
        page.screenshot(path=f"{PICTURES}/{picture}-{screen}.png", full_page=True)
    return page
