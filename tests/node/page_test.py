#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The web page in Chromium: tests/web/page_test.mjs as a person, against a wirtd with a template.

What the person saw is kept: pictures of each main view, in BUILD/screenshots.
"""
import http.server
import os
import subprocess
import threading

from wirt_node import PASSWORD, Node, busybox_args, for_others, own_network

TOP = os.environ["TOP"]
BUILD = os.environ["BUILD"]


class Site(http.server.BaseHTTPRequestHandler):
    """Where the node fetches a file from: the bytes that the person uploads, too."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(6 << 20))
        self.end_headers()
        self.wfile.write(b"\7" * (6 << 20))

    def log_message(self, *_):
        pass


def task(node, method, path, body=None):
    upid = node.owner(method, path, body)
    while True:
        status = node.owner("GET", f"/nodes/{node.name}/tasks/{upid}/status")
        if status["status"] == "stopped":
            assert status["exitstatus"] == "OK", status
            return


def main():
    subprocess.run([f"{TOP}/tools/web"], check=True)
    own_network()
    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    with Node("--web", for_others(f"{BUILD}/web"), name="pico") as node:
        machine = {"vmid": 100, "name": "busybox", "memory": 128, "virtio0": "local:0.125", "net0": "virtio,bridge=vmbr0", "serial0": "socket",
                   "tags": "small", "args": busybox_args()}
        task(node, "POST", "/nodes/pico/qemu", machine)
        task(node, "POST", "/nodes/pico/qemu/100/template")
        environment = {**os.environ, "ADDRESS": f"https://127.0.0.1:{node.port}", "PASSWORD": PASSWORD, "NODE": "pico", "FOLDER": f"{node.state}/second",
                       "SITE": f"http://127.0.0.1:{site.server_port}",
                       "SCREENSHOTS": f"{BUILD}/screenshots", "NODE_TLS_REJECT_UNAUTHORIZED": "0", "NODE_NO_WARNINGS": "1"}
        person = subprocess.Popen(["node", f"{TOP}/tests/web/page_test.mjs"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for line in person.stdout:
            print(line, end="", flush=True)
            if line == "wants wirtd killed and started again\n":
                node.kill()
                node.start()
                print("it is there", file=person.stdin, flush=True)
        assert person.wait() == 0, node.text()
        assert node.owner("GET", "/nodes/pico/storage/local/content") is not None


main()
