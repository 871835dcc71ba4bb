"""The page in a real browser: Debian's Chromium, driven by Playwright.

Playwright, because it can be a phone, see every request that the page makes, and works with the installed browser
without a driver of its own version. Skipped where no Chromium is installed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from talking_upstream import TalkingUpstream

import gateway_server
from tritonllm.gateway import app, stack
from tritonllm.gateway.keys import KeyFile

CHROMIUM = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"))), None)  # fmt: skip

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium is installed (Debian: apt-get install chromium-headless-shell)"
)

PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 640}, "has_touch": True, "is_mobile": True}
DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}

# Where to keep pictures of the page, to look at them.
PICTURES = os.environ.get("TRITONLLM_PICTURES")

# How long to wait for what the page does, in milliseconds: it takes milliseconds, unless the machine is busy.
PATIENCE = 30_000

expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # No sandbox: tests run as root in containers.
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
def upstream() -> TalkingUpstream:
    return TalkingUpstream("chat", "code")


@pytest.fixture
def served(upstream: TalkingUpstream) -> Iterator[gateway_server.Served]:
    with gateway_server.serve(stack.build(app.create_app(upstream), upstream, stack.Settings())) as found:
        yield found


@pytest.fixture(params=["desktop", "phone"])
def context(request: pytest.FixtureRequest, browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(**(PHONE if request.param == "phone" else DESKTOP))
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, served: gateway_server.Served) -> Iterator[Page]:
    found = context.new_page()
    elsewhere: list[str] = []
    failures: list[str] = []
    found.on(
        "request",
        lambda request: None if request.url.startswith(served.url) else elsewhere.append(request.url),
    )
    found.on("pageerror", lambda error: failures.append(str(error)))
    # What the Content-Security-Policy refuses is reported here; so is a response of 400, which is no failure.
    found.on("console", lambda message: failures.append(message.text) if message.type == "error" and "Failed to load resource" not in message.text else None)  # fmt: skip
    found.goto(served.url)
    expect(found.get_by_label("Model")).to_have_value("chat")
    yield found
    assert elsewhere == []
    assert failures == []


def ask(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.get_by_role("button", name="Send").click()


def settings(page: Page) -> None:
    if not page.get_by_label("Colours").is_visible():
        page.get_by_text("Settings", exact=True).click()


def picture(page: Page, name: str) -> None:
    if PICTURES:
        page.screenshot(path=f"{PICTURES}/{name}.png")


def test_an_answer_is_streamed_with_what_the_rules_did_below_it(page: Page) -> None:
    ask(page, "What is the capital of Germany?")
    answer = page.get_by_role("article").nth(1)
    expect(answer.locator(".text")).to_have_text("The capital of Germany is [REDACTED]. Write to us by mail.")
    expect(answer.locator("mark")).to_have_text("[REDACTED]")
    expect(answer.get_by_role("listitem")).to_have_text(["cities masked 1 match", "mails flagged 1 match"])
    expect(answer.locator(".numbers")).to_contain_text("7 + 10 tokens")
    expect(page.get_by_role("button", name="Send")).to_be_visible()


def test_characters_of_several_bytes_arrive_whole(page: Page) -> None:
    ask(page, "<b>ä</b> 😀")
    expect(page.get_by_role("article").nth(1).locator(".text")).to_have_text(
        "You wrote: <b>ä</b> 😀\nBye, ü €."
    )


def test_what_was_masked_in_the_prompt_is_shown_at_the_prompt(page: Page) -> None:
    ask(page, "I live in Berlin")
    expect(page.get_by_role("article").nth(0).get_by_role("listitem")).to_have_text(["cities masked 1 match"])
    expect(page.get_by_role("article").nth(1).get_by_role("listitem")).to_have_count(0)


def test_a_blocked_prompt_is_shown_as_such_and_is_not_sent_again(
    page: Page, upstream: TalkingUpstream
) -> None:
    ask(page, "the secret")
    expect(page.get_by_role("article").nth(0).get_by_role("listitem")).to_have_text(
        ["secrets blocked 1 match"]
    )
    expect(page.get_by_role("article").nth(1)).to_contain_text("the model has not seen it")
    ask(page, "hello")
    expect(page.get_by_role("article").nth(3)).to_contain_text("You wrote: hello")
    assert upstream.asked[-1][1] == [{"role": "user", "content": "hello"}]


def test_a_prompt_that_is_refused_in_an_answer_is_not_sent_again_either(
    page: Page, upstream: TalkingUpstream
) -> None:
    upstream.refusal = "Message"
    ask(page, "the secret")
    expect(page.get_by_role("article").nth(0).get_by_role("listitem")).to_have_text(
        ["secrets blocked 1 match"]
    )
    expect(page.get_by_role("article").nth(1)).to_contain_text("The prompt was blocked by a rule.")
    ask(page, "hello")
    expect(page.get_by_role("article").nth(3)).to_contain_text("You wrote: hello")
    assert upstream.asked[-1][1] == [{"role": "user", "content": "hello"}]


def test_a_blocked_answer_ends_where_it_was_blocked(page: Page) -> None:
    ask(page, "What are the plans?")
    answer = page.get_by_role("article").nth(1)
    expect(answer).to_contain_text("The plans of the project are")
    expect(answer).to_contain_text("The answer was blocked by a rule here.")
    expect(answer.get_by_role("listitem")).to_have_text(["secrets blocked 1 match"])


def test_a_conversation_and_its_parameters_are_sent(page: Page, upstream: TalkingUpstream) -> None:
    settings(page)
    page.get_by_label("System prompt").fill("Be brief.")
    page.get_by_label("Temperature").fill("0.3")
    page.get_by_label("Max tokens").fill("50")
    page.get_by_label("Model").select_option("code")
    ask(page, "one")
    expect(page.get_by_role("article").nth(1)).to_contain_text("You wrote: one")
    ask(page, "two")
    expect(page.get_by_role("article").nth(3)).to_contain_text("You wrote: two")
    model, messages, sampling = upstream.asked[-1]
    assert (model, sampling["temperature"], sampling["max_tokens"]) == ("code", 0.3, 50)
    assert "seed" not in sampling
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]

    page.get_by_role("button", name="New chat").click()
    expect(page.get_by_role("article")).to_have_count(0)
    ask(page, "three")
    expect(page.get_by_role("article").nth(1)).to_contain_text("You wrote: three")
    assert len(upstream.asked[-1][1]) == 2


def test_errors_are_shown_where_they_happened(page: Page) -> None:
    ask(page, "busy")
    expect(page.get_by_role("article").nth(1)).to_contain_text(
        "the queue of the endpoint is full (request req_"
    )
    ask(page, "break")
    expect(page.get_by_role("article").nth(3)).to_contain_text("This goes wr")
    expect(page.get_by_role("article").nth(3)).to_contain_text("the engine failed (request req_")
    expect(page.get_by_role("button", name="Send")).to_be_visible()


def test_an_answer_can_be_stopped_and_its_request_ends(page: Page, upstream: TalkingUpstream) -> None:
    ask(page, "wait")
    expect(page.get_by_role("article").nth(1)).to_contain_text("Let me think")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("article").nth(1)).to_contain_text("Stopped.")
    assert upstream.left.wait(PATIENCE / 1000)


def test_the_keyboard_is_enough(page: Page, upstream: TalkingUpstream) -> None:
    page.get_by_label("Message").focus()
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("wait")
    page.keyboard.press("Enter")
    expect(page.get_by_role("article").nth(1)).to_contain_text("Let me think")
    assert upstream.asked[0][1][0]["content"] == "one\nwait"
    page.keyboard.press("Escape")
    expect(page.get_by_role("article").nth(1)).to_contain_text("Stopped.")
    expect(page.get_by_label("Message")).to_be_focused()

    page.get_by_role("link", name="Chat").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Text", exact=True)).to_be_visible()


def test_a_long_answer_is_followed_unless_the_reader_scrolls_back(page: Page) -> None:
    for number, text in enumerate(("the secret", "a story", "the secret", "a story")):
        ask(page, text)
        end = page.get_by_role("article").nth(2 * number + 1).locator(".note, .numbers:not(:empty)")
        expect(end).to_be_in_viewport()
    log = page.get_by_label("Conversation")
    assert log.evaluate("log => log.scrollHeight > log.clientHeight")
    log.evaluate("log => (log.scrollTop = 0)")
    ask(page, "wait")
    expect(page.get_by_text("Let me think")).to_be_in_viewport()
    log.evaluate("log => (log.scrollTop = 0)")
    page.keyboard.press("Escape")
    expect(page.get_by_text("Stopped.")).to_be_attached()
    assert log.evaluate("log => log.scrollTop") == 0
    # Only the conversation scrolls.
    assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_rules_are_applied_to_a_text_while_it_is_typed(page: Page, upstream: TalkingUpstream) -> None:
    page.get_by_role("link", name="Rules").click()
    text, verdict = page.get_by_label("Text", exact=True), page.locator("#verdict")
    # The view changes a moment after the address: keys typed before it has would be lost.
    text.click()
    text.press_sequentially("From Berlin to Berlin by train")
    expect(verdict).to_have_text("Passes with parts masked")
    expect(page.locator("#matches li")).to_have_text(["cities masked 2 matches"])
    expect(page.locator("#masked")).to_have_text("From [REDACTED] to [REDACTED] by train")
    expect(page.locator("#masked mark")).to_have_text(["[REDACTED]", "[REDACTED]"])
    assert {direction for _, _, direction in upstream.checked} == {"input"}

    page.get_by_label("answers").check()
    text.fill("the secret")
    expect(verdict).to_have_text("Blocked")
    expect(page.locator("#masked")).to_be_hidden()
    text.fill("mail")
    expect(verdict).to_have_text("Passes, and is flagged")
    text.fill("harmless")
    expect(verdict).to_have_text("Passes unchanged")
    assert upstream.checked[-1] == ("chat", "harmless", "output")
    with page.expect_response("**/v1/moderations"):
        page.get_by_label("Model").select_option("code")
    assert upstream.checked[-1] == ("code", "harmless", "output")
    text.fill("")
    expect(verdict).to_have_text("Nothing to check yet.")


def test_the_key_is_kept_in_the_tab_only(
    context: BrowserContext, upstream: TalkingUpstream, tmp_path: Path
) -> None:
    secret = "sk-test"
    entry = {"sha256": hashlib.sha256(secret.encode()).hexdigest(), "models": ["code"]}
    (tmp_path / "keys.json").write_text(json.dumps({"team-a": entry}))
    settings = stack.Settings(keys=KeyFile([tmp_path / "keys.json"]))
    with gateway_server.serve(stack.build(app.create_app(upstream), upstream, settings)) as served:
        page = context.new_page()
        page.goto(served.url)
        expect(page.get_by_role("alert")).to_have_text("This gateway needs an API key.")
        key = page.get_by_label("API key")
        expect(key).to_be_focused()
        key.fill("sk-wrong")
        key.press("Enter")
        expect(page.get_by_role("alert")).to_have_text("The API key is not valid.")
        key.fill(secret)
        key.press("Enter")
        expect(page.get_by_role("alert")).to_be_hidden()
        expect(page.get_by_label("Model")).to_have_value("code")
        ask(page, "hello")
        expect(page.get_by_role("article").nth(1)).to_contain_text("You wrote: hello")

        page.reload()
        expect(page.get_by_label("Model")).to_have_value("code")
        assert page.evaluate("JSON.stringify(localStorage)").count(secret) == 0
        assert context.cookies() == []
        other = context.new_page()
        other.goto(served.url)
        expect(other.get_by_role("alert")).to_have_text("This gateway needs an API key.")
        other.close()
        page.close()


def test_the_policy_lets_no_script_in(page: Page) -> None:
    policy = page.request.get(page.url).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_stands_in_the_way_of_a_screen_reader_or_weak_eyes(
    page: Page, scheme: str, request: pytest.FixtureRequest
) -> None:
    size = request.node.callspec.params["context"]
    page.emulate_media(color_scheme=scheme)  # pyright: ignore[reportArgumentType]
    axe = Axe()

    def check(name: str) -> None:
        picture(page, f"{name}-{size}-{scheme}")
        found = axe.run(page)
        assert found.violations_count == 0, found.generate_report()

    check("empty")
    ask(page, "What is the capital of Germany?")
    expect(page.locator(".numbers").nth(1)).to_contain_text("tokens")
    ask(page, "the secret")
    expect(page.get_by_role("article").nth(3)).to_contain_text("blocked")
    ask(page, "busy")
    expect(page.get_by_role("article").nth(5)).to_contain_text("queue")
    check("chat")
    ask(page, "a story")
    expect(page.locator(".numbers").nth(7)).to_contain_text("tokens")
    check("long")
    page.get_by_role("link", name="Rules").click()
    page.get_by_label("Text", exact=True).fill("From Berlin by mail")
    expect(page.locator("#verdict")).to_have_text("Passes with parts masked")
    check("rules")
    if size == "phone":
        page.get_by_role("link", name="Chat").click()
        expect(page.get_by_label("Message")).to_be_visible()
        page.get_by_text("Settings", exact=True).click()
        expect(page.get_by_label("Colours")).to_be_visible()
        check("settings")


def test_the_colours_can_be_chosen_and_are_remembered(page: Page) -> None:
    page.emulate_media(color_scheme="light")
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    settings(page)
    page.get_by_label("Colours").select_option("Dark")
    assert page.evaluate(background) != light
    page.reload()
    expect(page.get_by_label("Model")).to_have_value("chat")
    assert page.evaluate(background) != light
