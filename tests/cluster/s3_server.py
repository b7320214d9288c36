"""moto's S3 server in the foreground; while a file exists it listens to nobody. Content is kept.

python s3_server.py ADDRESS PORT FILE
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server


def serve(address: str, port: int, refuse: Path) -> None:
    """Serve for ever."""
    app = DomainDispatcherApplication(create_backend_app)
    while True:
        server = make_server(address, port, app, threaded=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        while not refuse.exists():
            time.sleep(0.05)
        server.shutdown()
        thread.join()
        server.server_close()
        while refuse.exists():
            time.sleep(0.05)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
