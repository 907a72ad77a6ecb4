"""The page in a real browser: what a reader meets, at the widths of a phone, a laptop and a large screen."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from test_report import EXPERIMENTS, FACTS, STUDIES, make_results

from rcig.predictions import Predictions
from rcig.report import collect, render, write
from rcig.report.drawing import Cell
from rcig.report.results import Report

WIDTHS = (360, 1280, 1920)
MOST = 6_000_000
"""bytes of the page"""
in_a_browser = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="no chromium with its driver on PATH: apt-get install chromium-driver",
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("page")
    results = make_results(folder / "results")
    write(collect(results, list(EXPERIMENTS), STUDIES, list(FACTS), ["cifar10"]), folder)
    return (folder / "index.html").as_uri()


@pytest.fixture(scope="module")
def driver() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-background-networking", "disable-sync"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    with webdriver.Chrome(options=options, service=service) as opened:
        opened.set_page_load_timeout(120)
        opened.set_script_timeout(120)
        yield opened


class Reader:
    """Somebody who has opened the page in a window of this width."""

    def __init__(self, driver: webdriver.Chrome, page: str, width: int = 1280, scheme: str = "light") -> None:
        self.driver = driver
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme_asked = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme_asked)
        driver.get("about:blank")
        driver.get_log("browser")
        driver.get(page)

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def asks(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(f"return {script}", *arguments)

    def waits(self, script: str) -> None:
        WebDriverWait(self.driver, 300, poll_frequency=0.1).until(lambda _: self.asks(script))

    def opens_everything(self) -> None:
        """All that is folded, and waits until all figures are drawn, which they are when they come into sight."""
        self.driver.execute_script("document.querySelectorAll('main details').forEach(one => { one.open = true; })")
        left = "[...document.querySelectorAll('.plot')].find(one => !one.querySelector('svg.marks'))"
        self.waits(f"(() => {{ const left = {left}; left?.scrollIntoView(); return !left; }})()")

    @property
    def complaints(self) -> list[str]:
        """What the browser has to say of the page, warnings included."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    @property
    def overflows(self) -> bool:
        return self.asks("document.scrollingElement.scrollWidth > innerWidth")


@in_a_browser
@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_overflows_and_nothing_fails(driver: webdriver.Chrome, page: str, width: int) -> None:
    reader = Reader(driver, page, width, "dark" if width == 1920 else "light")
    assert not reader.overflows
    reader.opens_everything()
    assert len(reader.all(".plot svg.marks")) == len(reader.all(".plot")) > 20
    assert not reader.overflows
    # Figures are as wide as their place, no wider.
    assert reader.asks(
        "[...document.querySelectorAll('.plot')].every(one => one.querySelector('svg.marks').clientWidth"
        " <= one.clientWidth)"
    )
    assert reader.complaints == []
    assert reader.asks("performance.getEntriesByType('resource').filter(one => !one.name.startsWith('data:'))") == []


@in_a_browser
def test_first_screen_shows_the_images_and_the_contents_lead_to_every_section(
    driver: webdriver.Chrome, page: str
) -> None:
    reader = Reader(driver, page)
    first = reader.one(".cards img")
    assert first.rect["y"] + first.rect["height"] < 900
    assert first.rect["width"] > 80
    reader.one(".contents summary").click()
    links = reader.all("nav a")
    assert len(links) == len(reader.all("h2")) >= 12
    for link in links:
        link.click()
        target = str(link.get_attribute("href")).partition("#")[2]
        reader.waits(
            f"(() => {{ const at = document.getElementById('{target}').getBoundingClientRect();"
            " return at.height > 0 && at.top > -5 && at.bottom < innerHeight + 5; })()"
        )


@in_a_browser
def test_a_number_of_the_matrix_leads_to_its_set(driver: webdriver.Chrome, page: str) -> None:
    reader = Reader(driver, page)
    assert not any(one.get_attribute("open") for one in reader.all("details.set"))
    number = reader.one(".matrix a.entry.best")
    target = str(number.get_attribute("href")).partition("#")[2]
    number.click()
    reader.waits(f"document.getElementById('{target}').open")
    titles = [one.text for one in reader.all(f"#{target} h4")]
    assert titles == [
        "Distilled images",
        "Accuracy",
        "Classes and hard images",
        "Training",
        "Other architectures",
        "Membership inference",
        "Card",
    ]
    assert f'rcig.load("{target.removeprefix("set-")}")' in reader.one(f"#{target}").text
    # The same link again, after the reader has folded the set.
    reader.driver.execute_script("document.querySelectorAll('details.set').forEach(one => { one.open = false; })")
    number.click()
    reader.waits(f"document.getElementById('{target}').open")


def column(reader: Reader, position: int) -> list[str]:
    """The cells of the table of all accuracies that a reader sees."""
    rows = "[...document.querySelectorAll('#accuracy ~ .lines tbody')[0].rows].filter(row => row.offsetHeight)"
    return list(reader.asks(f"{rows}.map(row => row.cells[{position}].textContent)"))


@in_a_browser
def test_a_table_sorts_and_filters(driver: webdriver.Chrome, page: str) -> None:
    reader = Reader(driver, page)
    table = "#accuracy ~ .lines"
    heads = [one.text.rstrip(" ↕") for one in reader.all(f"{table} th[scope=col] button")]
    assert heads[:3] == ["Set", "Accuracy", "Published"]
    accuracies = [float(text.split()[0]) for text in column(reader, 1)]
    assert accuracies != sorted(accuracies)
    button = reader.all(f"{table} th[scope=col] button")[1]
    button.click()
    assert [float(text.split()[0]) for text in column(reader, 1)] == sorted(accuracies)
    button.send_keys(Keys.ENTER)
    assert [float(text.split()[0]) for text in column(reader, 1)] == sorted(accuracies, reverse=True)
    assert reader.all(f"{table} th[scope=col]")[1].get_attribute("aria-sort") == "descending"
    # Numbers as numbers, and what is empty last.
    reader.all(f"{table} th[scope=col] button")[10].click()
    assert column(reader, 10) == sorted(column(reader, 10), key=int)
    reader.all(f"{table} th[scope=col] button")[2].click()
    published = column(reader, 2)
    assert published == sorted(published, key=lambda text: (not text, text))
    assert published[0]
    assert not published[-1]

    def choose(name: str, value: str) -> None:
        (select,) = [one for one in reader.all(f"{table} label") if one.text.startswith(name)]
        select.find_element(By.XPATH, f".//option[.='{value}']").click()

    assert len(column(reader, 0)) == 7
    choose("Dataset", "mnist_sample")
    assert set(column(reader, 9)) == {"mnist_sample"}
    assert len(column(reader, 0)) == 4
    choose("Protocol", "Augmentation")
    assert column(reader, 3) == ["Augmentation"] * 2
    assert reader.one(f"{table} output").text == "2 of 7 lines"
    choose("Method", "random_real")
    assert column(reader, 0) == []
    choose("Dataset", "all")
    assert column(reader, 0) == ["cifar10-ipc10-random"]


@in_a_browser
def test_an_image_is_enlarged_by_a_click_and_by_the_keyboard(driver: webdriver.Chrome, page: str) -> None:
    reader = Reader(driver, page)
    dialog = reader.one("dialog")
    small = reader.one(".cards button.enlarge")
    small.click()
    assert dialog.is_displayed()
    large = dialog.find_element(By.TAG_NAME, "img")
    assert large.rect["width"] > 3 * small.rect["width"]
    assert large.get_attribute("src") == small.find_element(By.TAG_NAME, "img").get_attribute("src")
    dialog.find_element(By.TAG_NAME, "button").send_keys(Keys.ESCAPE)
    assert not dialog.is_displayed()
    small.send_keys(Keys.ENTER)
    assert dialog.is_displayed()
    dialog.find_element(By.TAG_NAME, "button").click()
    assert not dialog.is_displayed()


@in_a_browser
def test_figures_answer_a_pointer_and_their_legend_chooses(driver: webdriver.Chrome, page: str) -> None:
    reader = Reader(driver, page)
    reader.opens_everything()
    chart = "[data-name=curves-mnist_sample-ipc10-accuracy]"
    reader.driver.execute_script(f"document.querySelector('{chart}').scrollIntoView({{block: 'center'}})")
    lines = f"{chart} .mark-line path"
    assert {one.get_attribute("opacity") for one in reader.all(lines)} <= {None, "1"}
    entry = reader.one(f"{chart} .role-legend-label text")
    webdriver.ActionChains(driver).move_to_element(entry).click().perform()
    reader.waits(f"[...document.querySelectorAll('{lines}')].some(one => +(one.getAttribute('opacity') ?? 1) < 0.5)")
    point = reader.all(f"{chart} .mark-symbol.role-mark path")[3]

    def is_told(_: webdriver.Chrome) -> bool:
        webdriver.ActionChains(driver).move_to_element(entry).move_to_element(point).perform()
        told = "document.querySelector('#vg-tooltip-element.visible')?.textContent ?? ''"
        return "held-out accuracy50" in reader.asks(told)

    WebDriverWait(driver, 120).until(is_told)


@in_a_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_have_the_contrast_that_readers_need(driver: webdriver.Chrome, page: str, scheme: str) -> None:
    reader = Reader(driver, page, scheme=scheme)
    style = "getComputedStyle(document.documentElement)"
    names = ("ink", "soft", "accent", "compact", "paper", "ground", "plate", "tint")
    colours = {name: luminance(reader.asks(f"{style}.getPropertyValue('--{name}')").strip()) for name in names}
    for word in ("ink", "soft", "accent", "compact", "paper"):
        for ground in ("ground", "plate", "tint"):
            dark, bright = sorted((colours[word], colours[ground]))
            assert (bright + 0.05) / (dark + 0.05) >= 4.5, f"{word} on {ground}"
    shown = reader.asks("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, shown[4:-1].split(","))) < 200) == (scheme == "dark")


def luminance(colour: str) -> float:
    """Relative luminance of "#rrggbb", as WCAG defines it."""
    parts = np.array(list(bytes.fromhex(colour[1:]))) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def many(report: Report, sets: int) -> Report:
    """So many sets, six of a size, with noise for images, which no format makes smaller, and three seeds."""
    rng = np.random.default_rng(0)
    names = [f"cifar10-ipc10-method{i}-compact" for i in range(sets)]
    (rows,) = [some for name, some in report.rows.groupby("experiment") if name == "cifar10-ipc10-random"]
    pixels = rng.integers(0, 256, (100, 32, 32, 3), np.uint8)
    cells = [Cell(f"class {i // 10}", image) for i, image in enumerate(pixels)]
    steps = np.arange(10, 5001, 10)
    curves = [
        pd.DataFrame(rng.random((500, 4)), columns=["loss", "heldout_accuracy", "gradient_norm", "gradient_variance"])
        .assign(seed=seed, step=steps, seconds=steps / 7)
        .assign(heldout_accuracy=lambda rows: rows["heldout_accuracy"].where(steps % 500 == 0))
        for seed in range(3)
    ]
    labels = np.arange(10_000) % 10
    said = np.where(rng.random((3, 3, 10_000)) < 0.5, labels, rng.integers(0, 10, (3, 3, 10_000)))
    summary = report.summaries["cifar10-ipc10-random"] | {"method": "rcig"}
    size = {name: i // 6 + 1 for i, name in enumerate(names)}
    return report._replace(
        rows=pd.concat(
            [
                rows.assign(experiment=name, method=f"m{i % 6}", images_per_class=size[name])
                for i, name in enumerate(names)
            ],
            ignore_index=True,
        ),
        curves=dict.fromkeys(names, pd.concat(curves, ignore_index=True)),
        summaries={name: summary | {"storage_images_per_class": size[name]} for name in names},
        pictures=dict.fromkeys(names, cells),
        cards=dict.fromkeys(names, next(iter(report.cards.values()))),
        predictions=dict.fromkeys(names, Predictions(said, labels, [f"class {i}" for i in range(10)])),
        studies={},
    )


@pytest.mark.slow
def test_a_page_of_sixty_sets_is_small_enough_to_send(tmp_path: Path) -> None:
    report = collect(make_results(tmp_path), list(EXPERIMENTS), {}, list(FACTS), [])
    text = str(render(many(report, 60))["index.html"])
    assert text.count('<details class="set"') == 60
    assert len(text.encode()) < MOST
