"""A headless Chromium driven over its DevTools protocol: what a page logs and asks for, and how it looks on a screen of any size.

    python tests/pipelines/chromium.py runs/arithmetic-001/report.html pipelines/report/screenshots

takes the pictures that the README shows.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)


class Page:
    """One page. `events` are all protocol events so far; use `with`."""

    def __init__(self, *, width: int = 1280, height: int = 900, dark: bool = False, mobile: bool = False) -> None:
        from websockets.sync.client import connect

        self.profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run"]
        flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps"]
        flags += [f"--user-data-dir={self.profile.name}", "--remote-debugging-port=0", "--remote-allow-origins=*", "about:blank"]
        self.browser = subprocess.Popen([CHROMIUM or "chromium", *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.events: list[dict[str, Any]] = []
        self._last = 0
        port = self._port()
        self._socket = connect(f"ws://127.0.0.1:{port[0]}{port[1]}", max_size=None, proxy=None)
        target = next(t for t in self._send("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self._send("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.send("Emulation.setFocusEmulationEnabled", enabled=True)  # nothing is copied from a page without focus
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if mobile else 1, mobile=mobile)
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def _port(self) -> tuple[str, str]:
        file = Path(self.profile.name) / "DevToolsActivePort"
        for _ in range(300):
            if file.exists() and len(lines := file.read_text().split()) == 2:
                return lines[0], lines[1]
            if self.browser.poll() is not None:
                break
            time.sleep(0.1)
        raise RuntimeError("chromium did not start")

    def _send(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        self._last += 1
        self._socket.send(json.dumps({"id": self._last, "method": method, "params": params} | ({"sessionId": session} if session else {})))
        while True:
            said = json.loads(self._socket.recv(timeout=60))
            if said.get("id") == self._last:
                if "error" in said:
                    raise RuntimeError(f"{method}: {said['error']}")
                return said["result"]
            self.events.append(said)

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        return self._send(method, self._session, **params)

    def open(self, path: Path, fragment: str = "") -> None:
        """Loads a file and waits until the report has drawn its charts."""
        self.send("Page.navigate", url=path.resolve().as_uri() + fragment)
        for _ in range(600):
            if self.run("document.readyState === 'complete' && document.documentElement.dataset.charts"):
                return
            time.sleep(0.1)
        raise RuntimeError("the charts were not drawn within a minute")

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        said = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, userGesture=True)
        if "exceptionDetails" in said:
            raise RuntimeError(said["exceptionDetails"])
        return said["result"].get("value")

    def screenshot(self, path: Path, *, whole: bool = False, y: int = 0, height: int = 0, quality: int = 82) -> None:
        """PNG, JPEG or WebP by the name's ending; the window, the whole page, or `height` pixels of it from `y`."""
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        kind = path.suffix.removeprefix(".").replace("jpg", "jpeg")
        options: dict[str, Any] = {"format": kind} | ({} if kind == "png" else {"quality": quality})
        if whole or height:
            options["clip"] = {"x": 0, "y": y, "width": size["width"], "height": height or size["height"], "scale": 1}
            options["captureBeyondViewport"] = True
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", **options)["data"]))

    def complaints(self) -> list[str]:
        """Errors and warnings that the page logged, exceptions, policy violations."""
        found = []
        for event in self.events:
            method, params = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"].get("exception", {}).get("description", params)))
            elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
                found.append(" ".join(str(a.get("value", a.get("description"))) for a in params["args"]))
            elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(params["entry"]["text"])
        return found

    def requests(self) -> list[str]:
        """Addresses that the page asked for."""
        return [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]

    def close(self) -> None:
        self._socket.close()
        self.browser.terminate()
        self.browser.wait(20)
        self.profile.cleanup()

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def take_pictures(report: Path, folder: Path) -> None:
    """The top of the report by day, its middle by night, and a phone; WebP."""
    folder.mkdir(parents=True, exist_ok=True)
    with Page(width=1180, height=1150) as page:
        page.open(report)
        page.screenshot(folder / "report-light.webp", height=1150)
    with Page(width=1180, height=1150, dark=True) as page:
        page.open(report)
        page.run("document.querySelectorAll('.problems details')[0].open = true")
        top = page.run("document.getElementById('training').getBoundingClientRect().top + scrollY - 20")
        page.screenshot(folder / "report-dark.webp", y=top, height=1150)
    with Page(width=390, height=844, mobile=True) as page:
        page.open(report)
        page.screenshot(folder / "report-phone.webp", height=1150)


if __name__ == "__main__":
    take_pictures(Path(sys.argv[1]), Path(sys.argv[2]))
