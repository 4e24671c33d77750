"""The page of a run: <workdir>/report/index.html, one file that needs nothing else, not even a network.

What a model wrote is hostile until shown otherwise: it travels as JSON in which no `<` is left, becomes text nodes
only, and the page's own policy allows no script but the one it was made with and no connection to anywhere.
"""

import base64
import hashlib
import json
import os
import pathlib
import re
from typing import Any

from r1jax.report import figures
from r1jax.report.collect import collect

ASSETS = pathlib.Path(__file__).parent / "assets"
SCRIPTS = (
  "dom.js", "charts.js", "stage.js", "layout.js", "schedule.js", "table.js", "training.js", "data.js", "responses.js",
  "samples.js", "main.js",
)  # fmt: skip


def write(workdir: str | os.PathLike, megabytes: float = 4.0) -> pathlib.Path:
  """Writes the page of a run in any state, and the paper's figures beside it.

  Args:
    workdir: of the run.
    megabytes: of responses in the page at most; a fair sample beyond, and the page says so.

  Returns:
    The path of index.html.

  Raises:
    ValueError: `workdir` is not the folder of a run.
  """
  run = collect(workdir, megabytes)
  folder = pathlib.Path(workdir) / "report"
  folder.mkdir(exist_ok=True)
  run["figures"] = [path.name for path in figures.draw(run, folder)]
  path, aside = folder / "index.html", folder / ".index.html.tmp"
  aside.write_text(page(run), encoding="utf-8")
  os.replace(aside, path)
  return path


def page(run: dict) -> str:
  """The HTML of a collected run."""
  asset = lambda name: (ASSETS / name).read_text(encoding="utf-8")
  script = '(() => {\n"use strict";\n' + "\n".join(map(asset, SCRIPTS)) + "\n})();"
  digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
  parts = {
    "POLICY": f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'",
    "TITLE": _escaped(str(run["about"]["name"])),
    "STYLE": asset("style.css"),
    "DATA": embedded(run),
    "SCRIPT": script,
  }
  return re.sub(r"\{\{([A-Z]+)\}\}", lambda found: parts[found[1]], asset("page.html"))


def embedded(value: Any) -> str:
  """JSON that is safe within a script element, whatever its texts hold.

  No `<`, `>` or `&` is left as it is, so no text can end the element or begin a comment; nor a lone surrogate, which
  UTF-8 cannot hold.
  """
  text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
  return re.sub("[<>&\u2028\u2029\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def _escaped(text: str) -> str:
  return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
