"""The pages in a real Chromium, on a real coordinator with real agents: what an operator does with them in a day."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_federation as tiny
from playwright.sync_api import Page, expect

from crypto.identity import Identity

pytestmark = pytest.mark.browser


def create(page: Page, file: Path, name: str, **choices: str) -> None:
    """A study from the form, with an upload."""
    page.get_by_role("link", name="New study").click()
    page.get_by_label("Model file").set_input_files(file)
    page.get_by_role("button", name="Upload").click()
    page.wait_for_url("**/studies/new?model=*")
    page.get_by_label("Name").fill(name)
    for label, value in choices.items():
        page.get_by_label(label.replace("_", " ")).fill(value)
    page.get_by_role("button", name="Create the study").click()
    expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()


def test_first_login_and_logout(page: Page, token: Callable[..., str]) -> None:
    page.goto("/settings")
    page.get_by_label("Operator's token").fill("not-a-token")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("Nobody here was given this token")
    page.get_by_label("Operator's token").fill(token("anna"))
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Settings")).to_be_visible()
    expect(page.get_by_text("anna (operator)")).to_be_visible()
    assert page.evaluate("document.cookie") == "", "no script can read the login"
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Operator's token")).to_be_visible()
    page.goto("/sites")
    expect(page.get_by_label("Operator's token")).to_be_visible()


def test_inviting_a_site(log_in: Callable[..., Page], server: tiny.Server, tmp_path: Path) -> None:
    page = log_in("anna")
    page.get_by_role("link", name="Settings").click()
    page.get_by_label("Whom it is for").fill("Oslo, radiology")
    page.get_by_role("button", name="Invite a site").click()
    expect(page.get_by_text("This is shown this once.")).to_be_visible()
    invitation = re.search(r"pleura-invitation-[\w-]+", page.content())[0]
    page.get_by_role("link", name="Done").click()
    expect(page.get_by_role("row", name="Oslo, radiology")).to_contain_text("open")
    hospital = tiny.make_hospital(tmp_path, server.url, invitation, 1)
    page.get_by_role("link", name="Sites").click()
    row = page.get_by_role("row", name="site-1")
    expect(row).to_contain_text("active")
    for word in Identity.load(hospital.home.identity).public.words.split("-"):
        expect(row.get_by_text(word, exact=True).first).to_be_visible()


def test_a_study_is_made_started_watched_and_its_model_downloaded(
    log_in: Callable[..., Page], first_model: Path, hospitals: Callable[..., list[tiny.Hospital]]
) -> None:
    """Nothing is loaded again by hand: what the page shows of the round came by events."""
    page, go_on = log_in("anna"), threading.Event()
    create(page, first_model, "lungs", Rounds="2", Sites_to_wait_for_at_first="3")
    page.evaluate("window.loadedOnce = true")
    expect(page.get_by_text("Waiting for an operator to start it.")).to_be_visible()
    page.get_by_role("button", name="Start").click()
    page.wait_for_load_state()
    page.evaluate("window.loadedOnce = true")
    hospitals(3, hook=lambda number: go_on.wait(60))
    try:
        expect(page.get_by_text("Round 1: 0 of 3 contributions are in")).to_be_visible()
    finally:
        go_on.set()
    expect(page.locator("#study-head .state")).to_have_text("finished", timeout=60_000)
    rows = page.locator("#rounds tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.last).to_contain_text("complete")
    expect(page.locator("svg.chart").first).to_be_visible()
    expect(page.get_by_role("heading", name="Confusion matrix")).to_be_visible()
    assert page.evaluate("window.loadedOnce"), "the page was loaded again"

    page.locator("#study-head").get_by_role("link", name=re.compile("[0-9a-f]{12}")).click()
    digest = page.get_by_text(re.compile("^[0-9a-f]{64}$")).first.inner_text()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert hashlib.sha256(download.value.path().read_bytes()).hexdigest() == digest
    assert download.value.suggested_filename == f"{digest[:12]}.safetensors"


def test_an_auditor_looks_and_does_not_touch(
    log_in: Callable[..., Page], token: Callable[..., str], first_model: Path, server: tiny.Server
) -> None:
    study = server.create_study(first_model)["id"]
    page = log_in("zoe", "auditor")
    page.get_by_role("link", name="tiny").click()
    expect(page.get_by_role("heading", name="tiny", level=1)).to_be_visible()
    for path in ("/", f"/studies/{study}", "/sites", "/models", "/audit", "/settings"):
        page.goto(path)
        assert page.locator("main form[method=post]").count() == 0
    page.get_by_role("link", name="Audit").click()
    page.get_by_role("link", name="Verify the chain").click()
    expect(page.get_by_role("status")).to_contain_text("The chain holds")
    stop = f"fetch('/studies/{study}/stop', {{method: 'POST'}}).then(answer => answer.status)"
    assert page.evaluate(stop) == 403
    assert server.study(study)["state"] == "running"


def test_stopping_is_asked_for_twice(log_in: Callable[..., Page], first_model: Path, server: tiny.Server) -> None:
    study = server.create_study(first_model)["id"]
    page = log_in("anna")
    page.get_by_role("link", name="tiny").click()
    page.get_by_role("link", name="Stop").click()
    expect(page.get_by_role("heading", name="Stop tiny?")).to_be_visible()
    assert server.study(study)["state"] == "running"
    page.get_by_role("button", name="Stop for good").click()
    expect(page.locator("#study-head .state")).to_have_text("stopped")


def test_what_somebody_opened_stays_open_and_keeps_the_focus(log_in: Callable[..., Page], server: tiny.Server) -> None:
    page = log_in("anna")
    page.goto("/audit")
    first = page.locator("#rows tbody tr").first
    first.locator("summary").click()
    opened = first.locator("details").get_attribute("id")
    before = page.locator("#rows tbody tr").count()
    server.invite()
    expect(page.locator("#rows tbody tr")).to_have_count(before + 1)
    assert page.locator(f"#{opened}").evaluate("element => element.open")


def test_light_and_dark_are_kept(log_in: Callable[..., Page]) -> None:
    page = log_in("anna")
    page.emulate_media(color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Use dark colours").click()
    dark = page.evaluate(ground)
    assert dark != light
    page.get_by_role("link", name="Sites").click()
    expect(page.get_by_role("button", name="Use light colours")).to_be_visible()
    assert page.evaluate(ground) == dark


def test_it_works_by_keyboard(log_in: Callable[..., Page]) -> None:
    page = log_in("anna")
    page.goto("/")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    style = "element => { element.focus(); return getComputedStyle(element).outlineStyle }"
    assert page.locator(".brand").evaluate(style) == "solid"
