import os
from collections.abc import Iterator

import pytest
from browsing import Browser, find_chromium, start_chromium


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if not find_chromium():
        if os.environ.get("CI"):
            pytest.fail("CI tests pages in a browser: install chromium and chromium-driver")
        pytest.skip("chromium and chromium-driver are not installed")
    downloads = tmp_path_factory.mktemp("downloads")
    with start_chromium(downloads) as chrome:
        yield Browser(chrome, downloads)
