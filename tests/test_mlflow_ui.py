"""`sqtune ui`: the server's process, whatever the network around it is like."""

from __future__ import annotations

import os
from contextlib import suppress

import psutil
import pytest

from sqtune.errors import TrackingError
from sqtune.mlflow_ui import serve
from sqtune.store import Store
from sqtune.tracking.quiet import QUIET

SERVER = """
import json, os, subprocess, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

FOUND = {"experiments": [{"name": "resnet", "experiment_id": "7"}]}

class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))  # else its end resets the connection
        self.do_GET()
        self.wfile.write(json.dumps(FOUND).encode())
        self.wfile.flush()
        worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        print(worker.pid, file=open(os.path.join(os.environ["PYTHONPATH"], "worker"), "w"))
        os._exit(3)

HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Answers).serve_forever()
"""


def test_no_proxy_is_asked_and_a_server_that_dies_is_told(tmp_path, monkeypatch):
    (tmp_path / "mlflow.py").write_text(SERVER)  # in place of MLflow's, which seldom dies
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nobody listens
    for name in (*QUIET, "MLFLOW_LOGGING_LEVEL", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION"):
        monkeypatch.setenv(name, os.environ.get(name, "5"))  # what is set is put back
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "mlflow.db").touch()
    monkeypatch.setattr("sqtune.mlflow_ui.START_SECONDS", 20.0)
    started = []
    with pytest.raises(TrackingError, match="has ended, exit code 3"):
        serve(Store.at(tmp_path / "store"), None, lambda *told: started.append(told))
    [(_, study, pages)] = started
    assert study == "resnet"
    assert "experiments/7" in pages["trials"]
    assert pages["trials"].endswith("viewStateShareKey=sqtune-trials")  # not one collapsed row
    with suppress(psutil.NoSuchProcess):  # nothing of the server is left
        psutil.Process(int((tmp_path / "worker").read_text())).wait(5)
