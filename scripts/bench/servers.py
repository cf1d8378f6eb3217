"""Starts what is measured, each in a folder of its own that goes with it."""

import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request


class Server:
    """A running server. `disk` is what of its folder counts as stored."""

    def __init__(self, command, ready):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="weir-bench-"))
        self.disk = self.dir / "data"
        self.log = open(self.dir / "server.log", "w")
        self.process = subprocess.Popen(command(self.dir), stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.url = ready(self.process)

    def bytes_on_disk(self):
        return sum(f.stat().st_blocks * 512 for f in self.disk.rglob("*") if f.is_file())

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)


def weir(binary):
    """`weir serve` as it comes, on free ports."""
    flags = [f"--{name}=127.0.0.1:0" for name in ("listen", "otlp-grpc-listen", "otlp-http-listen")]
    command = lambda folder: [binary, "serve", *flags, "--data-dir", folder / "data"]
    return Server(command, lambda process: process.stdout.readline().split()[2])


def prometheus(_binary):
    """Debian's Prometheus. Its write-ahead log and head count as what it stores."""
    port = 19095

    def command(folder):
        config = folder / "prometheus.yml"
        config.write_text("storage:\n  tsdb:\n    out_of_order_time_window: 24h\n")
        return ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}", "--web.enable-remote-write-receiver"]

    def ready(_process):
        url = f"http://127.0.0.1:{port}"
        for _ in range(200):
            try:
                urllib.request.urlopen(f"{url}/-/ready", timeout=1)
                return url
            except OSError:
                time.sleep(0.1)
        sys.exit("prometheus did not start")

    return Server(command, ready)
