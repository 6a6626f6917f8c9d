#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The page that documents the interface: made of the table, all of it; readable without a script, nothing of it from elsewhere; the search, in Chromium."""
import html
import html.parser
import http.client
import json
import os
import re
import shutil
import subprocess
import tempfile

from wirt_node import Node, own_network, skip, unverified


class Page(html.parser.HTMLParser):
    """Articles by their ids, with their text; what the page asks for; that every element that is opened is closed."""

    VOID = {"meta", "link", "input", "br"}

    def __init__(self, text):
        super().__init__()
        self.articles, self.hidden, self.wanted, self.open, self.at = {}, set(), [], [], None
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.wanted += [value for name, value in attrs if name in ("src", "href", "action")]
        assert not any(name.startswith("on") for name in given), given
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "article":
            self.at = given["id"]
            assert self.at not in self.articles, self.at
            self.articles[self.at] = ""
            if "hidden" in given:
                self.hidden.add(self.at)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag
        self.at = None if tag == "article" else self.at

    def handle_data(self, data):
        if self.at:
            self.articles[self.at] += data


def name(endpoint):
    return re.sub(r"[^a-z0-9-]", "", f"{endpoint['method']}{endpoint['path'].replace('/', '-')}".lower())


def check_whole(page, table):
    assert set(page.articles) == {name(endpoint) for endpoint in table}
    assert len(page.articles) == len(table)
    for endpoint in table:
        text = page.articles[name(endpoint)]
        told = [endpoint[key] for key in ("path", "description", "permission", "filter", "also", "returns", "task") if key in endpoint]
        for param in endpoint["parameters"]:
            told += [param[key] for key in ("name", "description", "permission", "permission_by_value", "enum", "default") if key in param]
        for word in told:
            assert word in text, f"{name(endpoint)} lacks {word}"
    assert all(link.startswith("#") or link == "api.js" for link in page.wanted), page.wanted
    assert all(link[1:] in page.articles for link in page.wanted if link.startswith("#"))


def get(node, path):
    connection = http.client.HTTPSConnection("127.0.0.1", node.port, context=unverified(), timeout=30)
    connection.request("GET", path)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer, text


def in_browser(node, query):
    """The page as it stands once its script has run."""
    chromium = shutil.which("chromium")
    if not chromium:
        skip("there is no chromium")
    with tempfile.TemporaryDirectory() as profile:
        done = subprocess.run(
            [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={profile}",
             "--ignore-certificate-errors", "--dump-dom", f"https://127.0.0.1:{node.port}/api.html{query}"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=100, check=True)
    return Page(done.stdout)


def main():
    own_network()
    with Node() as node:
        table = node.owner("GET", "/describe")
        answer, text = get(node, "/api.html")
        assert answer.status == 200 and answer.getheader("Content-Type") == "text/html; charset=utf-8"
        policy = answer.getheader("Content-Security-Policy")
        assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy and "script-src" not in policy, policy
        page = Page(text)
        check_whole(page, table)
        assert not page.hidden
        answer, script = get(node, "/api.js")
        assert answer.status == 200 and answer.getheader("Content-Type").startswith("text/javascript") and "http" not in script
        # The same as files, as they are installed.
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([os.environ["WIRTD"], "--describe-page", folder], check=True)
            for file, content in ("api.html", text), ("api.js", script):
                with open(f"{folder}/{file}", encoding="utf-8") as written:
                    assert written.read() == content
        described = subprocess.run([os.environ["WIRTD"], "--describe"], stdout=subprocess.PIPE, check=True, text=True).stdout
        assert json.loads(described) == table
        # Folders of the tree tell what is in them.
        for folder, inside in ("", {"access", "cluster", "nodes", "pools", "storage", "version"}), ("/nodes/testnode", {"qemu", "tasks", "storage", "status"}), \
                ("/access", {"users", "groups", "roles", "acl", "domains", "ticket"}), ("/nodes/testnode/qemu/100", {"config", "status", "snapshot", "agent"}):
            assert inside <= {row["subdir"] for row in node.owner("GET", folder)}, folder
        found = in_browser(node, "?search=move_disk+bwlimit")
        shown = set(found.articles) - found.hidden
        assert shown == {"post-nodes-node-qemu-vmid-movedisk"}, shown


main()
