"""Makes docs/pictures/mlflow_*.png: MLflow's own pages on a real study, in Debian's Chromium.

python docs/make_mlflow_pictures.py STORE

STORE is a folder; the study is searched there first, in some minutes, unless that was done before.
Needs playwright's Python package and a chromium on the PATH.
"""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, ViewportSize, sync_playwright

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs/pictures"
SIZE: ViewportSize = {"width": 1400, "height": 860}
MOST_BYTES = 200_000
SEARCH = ("search", "--space", ROOT / "search_spaces/resnet.yaml", "--name", "digits")
SEARCH += ("--trials", "20", "--set", "trial.num_epochs=8")
NO_ASSISTANT = "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"


def command(*arguments: object) -> list[str]:
    """Return a command of sqtune."""
    return [sys.executable, "-m", "sqtune", *map(str, arguments)]


@contextmanager
def pages(store: Path) -> Iterator[dict[str, str]]:
    """Run `sqtune ui` and yield the addresses that it prints."""
    ui = command("ui", "--store", store, "--json")
    with subprocess.Popen(ui, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            text = ""
            while not text.endswith("\n}\n"):
                text += server.stdout.readline()
            found = json.loads(text)
            yield {"url": found["url"], **found["pages"]}
        finally:
            server.send_signal(signal.SIGTERM)


def ask(page: Page, url: str, **body: Any) -> Any:
    """Return what MLflow's server answers."""
    answer = page.request.post(url, data=body)
    assert answer.ok, answer.text()
    return answer.json()


def picture(page: Page, name: str, height: int = SIZE["height"]) -> None:
    """Write what the page shows, down to a height, in few colours, as they need few bytes."""
    page.wait_for_timeout(5000)  # it asks the server, and charts draw themselves in
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    shot = shot.crop((0, 0, SIZE["width"], height))
    path = PICTURES / f"mlflow_{name}.png"
    PICTURES.mkdir(exist_ok=True)
    shot.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    size = path.stat().st_size
    assert size < MOST_BYTES, f"{path} has {size:,} bytes"
    print(f"{path.relative_to(ROOT)}: {size:,} bytes")


def main(store: Path) -> None:
    """Search, export, and make the pictures."""
    subprocess.run(command(*SEARCH, "--store", store), check=True)
    deployed = store / "deployed"
    if not deployed.exists():
        subprocess.run(command("export", "--store", store, "--out", deployed), check=True)
    with pages(store) as at, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport=SIZE)
        page.add_init_script(NO_ASSISTANT)
        for name in ("front", "charts"):
            page.goto("about:blank")  # a new part behind the # alone would keep the old view
            page.goto(at[name])
            picture(page, name)
        experiment = at["trials"].partition("/experiments/")[2].partition("/")[0]
        api = f"{at['url']}/api/2.0/mlflow"
        training = at["trials"].partition("?")[2].partition("&")[0]
        runs = ask(page, f"{api}/runs/search", experiment_ids=[experiment])["runs"]
        tags = {run["info"]["run_id"]: {t["key"] for t in run["data"]["tags"]} for run in runs}
        study = next(run for run, keys in tags.items() if "sqtune.trial" not in keys)
        best = next(run for run, keys in tags.items() if "sqtune.best" in keys)
        found = ask(page, f"{api}/logged-models/search", experiment_ids=[experiment])
        model = found["models"][0]["info"]["model_id"]
        place = f"{at['url']}/#/experiments/{experiment}"
        page.goto(f"{place}/runs/{study}?{training}")
        page.get_by_text("Show more").first.click()
        picture(page, "study", 640)  # below it stands on what machine it ran
        page.goto(f"{place}/runs/{best}/model-metrics?{training}")
        picture(page, "trial")
        page.goto(f"{place}/models/{model}?{training}")
        picture(page, "model")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
