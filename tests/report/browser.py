"""A page in headless Chromium, driven over the DevTools protocol: messages of JSON through two pipes.

with Browser() as browser:
  page = browser.open(path, width=360, height=800)
  page.evaluate("document.title")
"""

import base64
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile
import time

SECONDS = 60.0  # a busy machine is slow; what hangs longer hangs for good
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
  "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync", "--mute-audio",
  "--remote-debugging-pipe", "--font-render-hinting=none", "--disable-extensions",
  "--disable-renderer-backgrounding", "--disable-backgrounding-occluded-windows", "--disable-background-timer-throttling",
)  # fmt: skip
KEYS = {"ArrowDown": 40, "ArrowUp": 38, "ArrowLeft": 37, "ArrowRight": 39, "Tab": 9, "Enter": 13, "End": 35, "Home": 36}


def executable() -> str | None:
  """Where a Chromium is, or None: R1JAX_CHROMIUM, or a usual name on the PATH."""
  return os.environ.get("R1JAX_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


# The protocol wants its pipes at 3 and 4, whatever numbers they have here.
LAUNCH = """
import fcntl, os, sys
high = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
os.dup2(high[0], 3)
os.dup2(high[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
  def __enter__(self):
    self._home = tempfile.TemporaryDirectory(prefix="chromium")
    to_child, self._out = os.pipe()
    self._in, from_child = os.pipe()

    launch = [sys.executable, "-c", LAUNCH, str(to_child), str(from_child)]
    command = [*launch, executable(), *FLAGS, f"--user-data-dir={self._home.name}"]
    self._process = subprocess.Popen(
      command, pass_fds=(to_child, from_child), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(to_child)
    os.close(from_child)
    self._buffer, self._last, self.events, self.front = b"", 0, [], None
    return self

  def __exit__(self, *_):
    self._process.terminate()
    try:
      self._process.wait(10)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()
    os.close(self._out)
    os.close(self._in)
    for _ in range(20):  # its children may still be writing there
      shutil.rmtree(self._home.name, ignore_errors=True)
      if not os.path.exists(self._home.name):
        break
      time.sleep(0.1)
    self._home._finalizer.detach()

  def call(self, method: str, session: str | None = None, **params):
    """Sends a command and waits for its result; events on the way are kept."""
    self._last += 1
    message = {"id": self._last, "method": method, "params": params} | ({"sessionId": session} if session else {})
    os.write(self._out, json.dumps(message).encode() + b"\0")
    while True:
      reply = self._receive()
      if reply.get("id") == message["id"]:
        assert "error" not in reply, f"{method}: {reply['error']}"
        return reply["result"]
      self.events.append(reply)

  def wait(self, method: str, session: str):
    """Waits for an event."""
    while True:
      for event in self.events:
        if event.get("method") == method and event.get("sessionId") == session:
          self.events.remove(event)
          return event["params"]
      self.events.append(self._receive())

  def open(self, path: pathlib.Path, width: int = 1280, height: int = 900, dark: bool = False) -> "Page":
    """A new page of that size on a file."""
    target = self.call("Target.createTarget", url="about:blank", newWindow=True)["targetId"]
    session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    page = Page(self, session)
    for domain in ("Page", "Runtime", "Log", "Network"):
      page.call(f"{domain}.enable")
    page.resize(width, height)
    page.call("Emulation.setEmulatedMedia",
              features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])  # fmt: skip
    page.call("Page.navigate", url=pathlib.Path(path).resolve().as_uri())
    self.wait("Page.loadEventFired", session)
    return page

  def _receive(self) -> dict:
    deadline = time.monotonic() + SECONDS
    while b"\0" not in self._buffer:
      ready, _, _ = select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))
      assert ready, f"the browser said nothing for {SECONDS:.0f} seconds"
      data = os.read(self._in, 1 << 20)
      assert data, "the browser ended"
      self._buffer += data
    message, self._buffer = self._buffer.split(b"\0", 1)
    return json.loads(message)


class Page:
  def __init__(self, browser: Browser, session: str):
    self.browser, self.session = browser, session

  def call(self, method: str, **params):
    return self.browser.call(method, self.session, **params)

  def resize(self, width: int, height: int):
    self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)

  def evaluate(self, expression: str):
    """The JSON value of an expression, after the page has drawn, which only the page in front does."""
    if self.browser.front is not self:
      self.browser.front = self
      self.call("Page.bringToFront")
    drawn = f"new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(({expression})))))"
    found = self.call("Runtime.evaluate", expression=drawn, awaitPromise=True, returnByValue=True)
    assert "exceptionDetails" not in found, found["exceptionDetails"]
    return found["result"].get("value")

  def click(self, selector: str, index: int = 0):
    """A real click into the middle of an element."""
    box = self.evaluate(
      f"(() => {{const e = document.querySelectorAll({json.dumps(selector)})[{index}];"
      "e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect();"
      "return [b.x + b.width / 2, b.y + b.height / 2]})()"
    )
    for kind in ("mousePressed", "mouseReleased"):
      self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

  def press(self, key: str, modifiers: int = 0):
    for kind in ("rawKeyDown", "keyUp"):
      code = KEYS[key]
      self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, modifiers=modifiers)

  def type(self, text: str):
    self.call("Input.insertText", text=text)

  def complaints(self) -> list[str]:
    """What the console was told: errors, warnings, exceptions; and requests that were made beyond the file."""
    self.evaluate("1")
    found = []
    for event in self.browser.events:
      if event.get("sessionId") != self.session:
        continue
      params, method = event["params"], event["method"]
      if method == "Runtime.exceptionThrown":
        found.append(str(params["exceptionDetails"].get("exception", {}).get("description")))
      elif method == "Runtime.consoleAPICalled":
        found.append(f"console.{params['type']}")
      elif method == "Log.entryAdded":
        found.append(params["entry"]["text"])
      elif method == "Network.requestWillBeSent" and not params["request"]["url"].startswith(("file:", "data:")):
        found.append(f"request of {params['request']['url']}")
    return found

  def screenshot(self, path: str | os.PathLike, whole: bool = True):
    """A PNG of the whole page, or of what is in view."""
    data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
    pathlib.Path(path).write_bytes(base64.b64decode(data))
