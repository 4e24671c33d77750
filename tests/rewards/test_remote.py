"""Running programs on a server: client and server, and what happens when they fail."""

import contextlib
import dataclasses
import http.client
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from r1jax.rewards.code import CodeTests
from r1jax.rewards.programs import remote as remote_module
from r1jax.rewards.programs.cases import read_tests
from r1jax.rewards.programs.remote import Client, Remote, Server
from r1jax.rewards.programs.sandbox import Limits
from r1jax.rewards.programs.trial import Job
from r1jax.types import Problem

PAIR = [{"input": "4", "output": "8"}]
LIMITS = Limits(seconds=10.0)
RIGHT = {"score": 1.0, "status": "right", "seconds": 0.1, "detail": ""}


@contextlib.contextmanager
def served(server):
  thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
  thread.start()
  try:
    yield f"http://127.0.0.1:{server.server_address[1]}"
  finally:
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def url(pool):
  with served(Server(("127.0.0.1", 0), pool)) as address:
    yield address


def job(program="print(int(input()) * 2)", tests=PAIR, score="all"):
  return Job(program, read_tests(tests), LIMITS, 20.0, score)


def post(url, body, headers=(), path="/check"):
  connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
  connection.request("POST", path, body, dict(headers))
  response = connection.getresponse()
  return response.status, json.loads(response.read())


def client(url, **fields):
  return Client(Remote(url=url, first_pause_s=0.01, **fields))


class Scripted(BaseHTTPRequestHandler):
  """Answers the requests with the server's script, one entry each; the last one for ever."""

  def do_GET(self):
    self.answer(200, b"{}")

  def do_POST(self):
    self.rfile.read(int(self.headers["Content-Length"]))
    with self.server.lock:
      self.server.asked += 1
      entry = self.server.script.pop(0) if len(self.server.script) > 1 else self.server.script[0]
    if entry == "hang up":
      self.connection.close()
    elif entry == "silence":
      time.sleep(3.0)
    elif entry == "drip":
      self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\n")
      for _ in range(30):
        self.wfile.write(b" ")
        time.sleep(0.1)
    else:
      status, data = entry
      self.answer(status, data if isinstance(data, bytes) else json.dumps(data).encode())

  def answer(self, status, data):
    self.send_response(status)
    self.send_header("Content-Length", str(len(data)))
    self.end_headers()
    self.wfile.write(data)

  def log_message(self, *_):
    pass


class Quiet(ThreadingHTTPServer):
  daemon_threads = True

  def handle_error(self, *_):  # the client has hung up
    pass


@contextlib.contextmanager
def scripted(*script):
  server = Quiet(("127.0.0.1", 0), Scripted)
  server.script, server.asked, server.lock = list(script), 0, threading.Lock()
  with served(server) as address:
    yield server, address


def test_verdicts_are_those_of_the_local_pool(url):
  problems = [
    Problem(id=str(i), question="?", answer="", kind="program", domain="code", columns=row)
    for i, row in enumerate(
      [
        {"tests": PAIR},
        {"test_list": ["assert f(1) == 2", "class A: pass\nassert f(1) == 2"]},
        {"tests": [{"function": "f", "args": [1], "output": 2}]},
        {"tests": PAIR, "checker": "1 / 0"},
      ]
    )
  ]
  programs = ["print(int(input()) * 2)", "def f(x): return x + 1", "def f(x): return x", "1/0", "print(", ""]
  rows = [(problem, f"```python\n{program}\n```") for problem in problems for program in programs]
  found = []
  for where in (None, Remote(url=url)):
    with CodeTests(requires_format=False, limit_s=10.0, remote=where).open() as runner:
      verdicts = runner.score([problem for problem, _ in rows], [response for _, response in rows])
    found.append([(verdict.score, verdict.status, verdict.detail) for verdict in verdicts])
  assert found[0] == found[1]
  assert {score for score, *_ in found[0]} == {0.0, 1.0, None}


def test_hanging_programs_time_out_over_there(url):
  (verdict,) = client(url).check([job("while True: pass", {"tests": PAIR, "time_limit": 0.5})])
  assert (verdict.score, verdict.status) == (0.0, "timed out")


def test_errors_that_may_pass_are_tried_again_and_order_is_kept():
  script = [(503, {"error": "busy"}), "hang up", (429, {}), (200, b"{"), (200, RIGHT)]
  with scripted(*script) as (server, address):
    (verdict,) = client(address).check([job()])
    assert verdict.status == "right" and server.asked == 5
  with scripted((200, RIGHT)) as (server, address):
    assert [v.score for v in client(address, concurrency=3).check([job()] * 20)] == [1.0] * 20


@pytest.mark.parametrize(("answer", "asked", "words"), [
  ((503, {"error": "busy"}), 3, "status 503"), ("hang up", 3, "http://"), ((400, {"error": "no"}), 1, "status 400: {\"error\": \"no\"}"),
  ((200, b"[]"), 3, "no verdict"), ((200, RIGHT | {"score": 7}), 3, "no verdict"), ((200, RIGHT | {"score": float("nan")}), 3, "no verdict"),
  ((200, b"[" * 10**5), 3, "no verdict"), ((200, b" " * 2**21), 3, "a reply of more than"),
])  # fmt: skip
def test_a_server_that_gives_no_verdict_is_the_rewards_own_fault(answer, asked, words):
  with scripted(answer) as (server, address):
    (verdict,) = client(address, retries=2).check([job()])
    assert (verdict.score, verdict.status, server.asked) == (0.0, "raised", asked) and words in verdict.detail


@pytest.mark.parametrize("answer", ["silence", "drip"])
def test_no_answer_is_waited_for_longer_than_its_limit(monkeypatch, answer):
  monkeypatch.setattr(remote_module, "SLACK", 0.1)
  quick = Job("print(1)", read_tests(PAIR), Limits(seconds=0.1), 0.1, "all")
  with scripted(answer) as (_, address):
    start = time.monotonic()
    (verdict,) = client(address, retries=0).check([quick])
    assert verdict.status == "raised" and time.monotonic() - start < 2.5


def test_a_server_that_cannot_be_reached_stops_before_training_starts():
  with scripted((200, RIGHT)) as (_, address):
    pass
  with pytest.raises(RuntimeError, match="does not answer"), CodeTests(remote=Remote(url=address)).open():
    pass
  for url in ("host:80", "ftp://host", "http://me:secret@host"):
    with (
      pytest.raises(ValueError, match=r"remote.url must be http\(s\)") as error,
      CodeTests(remote=Remote(url=url)).open(),
    ):
      pass
    assert "secret" not in str(error.value)


def test_the_key_is_read_from_the_environment_and_asked_for(pool, monkeypatch):
  monkeypatch.setenv("CODE_KEY_OF_TEST", "open sesame")
  with served(Server(("127.0.0.1", 0), pool, "CODE_KEY_OF_TEST")) as address:
    with CodeTests(remote=Remote(url=address, key_variable="CODE_KEY_OF_TEST"), requires_format=False).open() as runner:
      assert runner.check([("print(8)", read_tests(PAIR))])[0].status == "right"
    with pytest.raises(RuntimeError, match="status 401"), CodeTests(remote=Remote(url=address)).open():
      pass
    assert post(address, b"{}")[0] == 401
    assert post(address, b"{}", {"Authorization": "Bearer é".encode("latin-1")})[0] == 401
  monkeypatch.delenv("CODE_KEY_OF_TEST")
  with pytest.raises(ValueError, match="CODE_KEY_OF_TEST is not set"):
    client("http://127.0.0.1:1", key_variable="CODE_KEY_OF_TEST")


@pytest.mark.parametrize(("fields", "words"), [
  ({"program": "print(1)"}, "must be an object of program, tests"), ([], "must be an object"), ({"program": 3, "tests": PAIR}, "program must be a text"),
  ({"program": "", "tests": []}, "no tests"), ({"program": "", "tests": [{}]}, "tests[0] has no output"),
  ({"program": "", "tests": PAIR, "limit_s": 1e9}, "limit_s=1000000000.0 must be"), ({"program": "", "tests": PAIR, "limit_s": True}, "limit_s=True must be"),
  ({"program": "", "tests": PAIR, "memory_mb": "x"}, "memory_mb='x' must be"), ({"program": "", "tests": PAIR, "score": "some"}, "score all or fraction"),
  ({"program": "", "tests": [PAIR[0] | {"memory_limit": 10**6}]}, "memory limit must be at most 4096"), ({"program": "", "tests": PAIR, "more": 1}, "object of"),
])  # fmt: skip
def test_requests_that_make_no_sense_are_answered_with_a_sentence(url, fields, words):
  status, answer = post(url, json.dumps(fields))
  assert status == 400 and words in answer["error"]


def test_calls_that_are_not_those_of_the_test_are_refused(url):
  tests = dataclasses.asdict(read_tests(["assert f(1) == 2"]))
  assert post(url, json.dumps({"program": "def f(x): return 2", "tests": tests}))[1]["status"] == "right"
  for calls in ("", "[]", '["", []]', '["", [["3", "g(1)"]]]', "[1, 2, 3]", "{}", '[3, [["3", "f(1)"]]]'):
    tests["cases"][0]["calls"] = calls
    assert post(url, json.dumps({"program": "", "tests": tests}))[0] == 400


def test_tests_in_any_style_and_defaults_may_be_posted(url):
  assert post(url, json.dumps({"program": "print(8)", "tests": PAIR}))[1]["status"] == "right"
  assert (
    post(url, json.dumps({"program": "def f(x): return 2", "tests": {"test_list": ["assert f(1) == 2"]}}))[1]["score"]
    == 1.0
  )


def test_other_requests_do_not_disturb_the_server(url, monkeypatch):
  assert post(url, b"{")[0] == 400
  assert post(url, b"[" * 10**5)[0] == 400
  assert post(url, b"{}", path="/other")[0] == 404
  assert post(url, b"", {"Content-Length": "999999999999"})[0] == 413
  assert post(url, b"{}")[0] == 400
  monkeypatch.setattr(remote_module, "PATIENCE", 0.05)
  (first, *others) = client(url, concurrency=8, retries=0).check([job("import time\ntime.sleep(0.5)\nprint(8)")] * 8)
  assert {v.status for v in [first, *others]} == {"right", "raised"}
  assert any("all sandboxes are busy" in v.detail for v in others)
  assert client(url).check([job()])[0].status == "right"


def test_the_server_starts_from_the_shell(pool):
  line = [sys.executable, "-m", "r1jax.rewards.programs.remote", "--port=0", "--processes=1"]
  signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and hands that on
  with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
    try:
      address = process.stdout.readline().strip()
      assert client(address).check([job()])[0].status == "right"
      process.send_signal(signal.SIGINT)
      assert process.wait(20) == 0
    finally:
      process.kill()
  refused = subprocess.run([*line, "--host=0.0.0.0"], capture_output=True, text=True, timeout=30)
  assert refused.returncode == 2 and "name the variable with their key" in refused.stderr
