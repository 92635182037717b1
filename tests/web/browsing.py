"""A page of vaectl in a real browser, as a person uses it."""

import base64
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from selenium.webdriver import ActionChains, Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

TIMEOUT = 60.0  # seconds
# As root, Chromium runs without its sandbox only; the others keep it from asking the network for anything of its own.
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,1000",
)

DROP = """
const [name, type, content, done] = arguments;
const transfer = new DataTransfer();
transfer.items.add(new File([Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0))], name, {type}));
document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
"""


def find_chromium() -> tuple[str, str] | None:
    """The paths of Chromium and its driver, if both are installed."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    return (program, driver) if program and driver else None


@contextmanager
def start_chromium(downloads: Path) -> Iterator[Chrome]:
    """A headless Chromium that saves files in a folder."""
    found = find_chromium()
    assert found, "install chromium and chromium-driver"
    options = ChromeOptions()
    options.binary_location = found[0]
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = Chrome(options=options, service=ChromeService(found[1]))
    chrome.set_script_timeout(TIMEOUT)
    try:
        yield chrome
    finally:
        chrome.quit()


class Browser:
    """A browser with one page open."""

    def __init__(self, chrome: Chrome, downloads: Path) -> None:
        self.chrome = chrome
        self.downloads = downloads

    def open(self, page: Path) -> None:
        """Open a page from its file, and wait until it is ready."""
        self.chrome.get("about:blank")
        self.chrome.get_log("browser")
        self.chrome.get(page.as_uri())
        self.wait_for("document.body.dataset.ready === 'true'")

    def run(self, script: str, *arguments: Any) -> Any:
        return self.chrome.execute_script(script, *arguments)

    def wait_for(self, condition: str) -> None:
        """Wait until a condition of the page holds."""
        end = time.monotonic() + TIMEOUT
        while not self.run(f"return {condition}"):
            assert time.monotonic() < end, f"{condition} did not come true: {self.complaints()}"
            time.sleep(0.02)

    def complaints(self) -> list[str]:
        """What the page wrote into the browser's console: errors, and requests that its policy refused."""
        return [entry["message"] for entry in self.chrome.get_log("browser")]

    def text(self, id: str) -> str:
        return str(self.chrome.find_element(By.ID, id).text)

    def click(self, id: str) -> None:
        self.chrome.find_element(By.ID, id).click()

    def press(self, *keys: str) -> None:
        """Press keys on the map."""
        self.run("document.getElementById('map').focus()")
        for key in keys:
            self.chrome.switch_to.active_element.send_keys(getattr(Keys, key, key))

    def after_decoding(self, act: Callable[[], None]) -> None:
        """Act, and wait until the page has decoded what that asked for."""
        before = self.run("return Number(document.body.dataset.decoded ?? 0)")
        act()
        self.wait_for(f"Number(document.body.dataset.decoded) > {before}")
        time.sleep(0.1)  # a pointer that moves asks for several

    def move(self, x: float, y: float) -> None:
        """Move the pointer to a fraction of the map's width and height."""
        left, top = self.offset(x, y)
        ActionChains(self.chrome, duration=20).move_to_element_with_offset(self.map(), left, top).perform()

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag from one place of the map to another."""
        actions = ActionChains(self.chrome, duration=50)
        actions.move_to_element_with_offset(self.map(), *self.offset(*start)).click_and_hold()
        actions.move_to_element_with_offset(self.map(), *self.offset(*end)).release().perform()

    def click_map(self, x: float, y: float) -> None:
        self.move(x, y)
        ActionChains(self.chrome).click().perform()

    def touch(self, *paths: Sequence[tuple[float, float]]) -> None:
        """Move a finger along each path over the map, all at once."""
        actions = ActionBuilder(self.chrome, duration=50)
        for number, path in enumerate(paths):
            finger = actions.add_pointer_input("touch", f"finger {number}")
            for index, place in enumerate(path):
                left, top = self.offset(*place)
                finger.create_pointer_move(50, left, top, self.map())
                if not index:
                    finger.create_pointer_down(button=0)
            finger.create_pointer_up(0)
        actions.perform()

    def map(self) -> Any:
        return self.chrome.find_element(By.ID, "map")

    def offset(self, x: float, y: float) -> tuple[int, int]:
        size = self.map().size
        return round((x - 0.5) * size["width"]), round((y - 0.5) * size["height"])

    def pixels(self, id: str) -> NDArray[np.uint8]:
        """The pixels of a canvas, (H, W, 3)."""
        url = self.run("return document.getElementById(arguments[0]).toDataURL()", id)
        return np.asarray(Image.open(BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB"))

    def save(self, button: str, name: str) -> Path:
        """Click a button that saves a file, and wait for the file."""
        path = self.downloads / name
        path.unlink(missing_ok=True)
        self.click(button)
        end = time.monotonic() + TIMEOUT
        # Chromium makes an empty file of this name, writes another, and then moves it here.
        while not (path.exists() and path.stat().st_size):
            assert time.monotonic() < end, f"{name} was not saved: {self.complaints()}"
            time.sleep(0.02)
        return path

    def latent(self) -> NDArray[np.float32]:
        """The latent that is shown, (1, D)."""
        found: NDArray[np.float32] = np.load(self.save("save-latent", "latent.npy"))
        return found

    def drop(self, path: Path, type: str = "image/png") -> None:
        """Drop a file on the page."""
        self.run(DROP, path.name, type, base64.b64encode(path.read_bytes()).decode())
