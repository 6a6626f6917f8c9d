#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Logging in: passwords, tickets, forged requests, second factors, limits; and what a request must not do."""
import base64
import hashlib
import hmac
import http.client
import json
import struct
import time
import urllib.parse

from wirt_node import PASSWORD, Node, unverified


def ask(node, method, path, params=None, raw_body=None, **headers):
    connection = http.client.HTTPSConnection("127.0.0.1", node.port, context=unverified(), timeout=30)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    body = raw_body
    if params is not None:
        body = urllib.parse.urlencode(params)
        headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
    connection.request(method, path, body=body, headers=headers)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer, json.loads(text) if text.startswith(b"{") else text


def log_in(node, user, password, **more):
    return ask(node, "POST", "/api2/json/access/ticket", {"username": user, "password": password, **more})


def totp(secret, at):
    mac = hmac.new(base64.b32decode(secret), struct.pack(">Q", int(at) // 30), hashlib.sha1).digest()
    offset = mac[-1] & 15
    return f"{(struct.unpack('>I', mac[offset:offset + 4])[0] & 0x7FFFFFFF) % 1000000:06d}"


def test_tickets(node):
    answer, body = log_in(node, "root@pve", PASSWORD)
    assert answer.status == 200 and answer.getheader("Content-Type") == "application/json;charset=UTF-8"
    data = body["data"]
    ticket, csrf = data["ticket"], data["CSRFPreventionToken"]
    assert data["username"] == "root@wirt"
    for cookie in ticket, urllib.parse.quote(ticket, safe=""):
        assert ask(node, "GET", "/api2/json/version", Cookie=f"PVEAuthCookie={cookie}")[0].status == 200
    assert ask(node, "GET", "/api2/json/version", Authorization=f"PVEAuthCookie={ticket}")[0].status == 200
    answer, _ = ask(node, "GET", "/api2/json/version", Cookie=f"PVEAuthCookie={ticket[:-3]}xx=")
    assert answer.status == 401 and answer.reason == "permission denied - invalid PVE ticket", answer.reason
    # A page elsewhere can make the browser send the cookie, but not this header.
    pool = {"poolid": "p1"}
    assert ask(node, "POST", "/api2/json/pools", pool, Cookie=f"PVEAuthCookie={ticket}")[0].status == 401
    assert ask(node, "POST", "/api2/json/pools", pool, Cookie=f"PVEAuthCookie={ticket}", CSRFPreventionToken="6B000000:x")[0].status == 401
    assert ask(node, "POST", "/api2/json/pools", pool, Cookie=f"PVEAuthCookie={ticket}", CSRFPreventionToken=csrf)[0].status == 200
    assert log_in(node, "root@pve", ticket)[0].status == 200  # renewal
    node.init("another password")  # a new password ends what was given for the old one
    assert ask(node, "GET", "/api2/json/version", Cookie=f"PVEAuthCookie={ticket}")[0].status == 401
    assert log_in(node, "root@pve", PASSWORD)[0].status == 401
    node.init()


def test_second_factor(node):
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    node.owner("POST", "/access/users", {"userid": "two@wirt", "password": PASSWORD})
    now = time.time()
    node.owner("POST", "/access/tfa/two@wirt", {"type": "totp", "totp": f"otpauth://totp/x?secret={secret}&issuer=wirt", "value": totp(secret, now)})
    data = log_in(node, "two@wirt", PASSWORD)[1]["data"]
    assert data["NeedTFA"] == 1
    assert ask(node, "GET", "/api2/json/version", Cookie=f"PVEAuthCookie={data['ticket']}")[0].status == 401  # a challenge is no ticket
    code = totp(secret, now)
    assert log_in(node, "two@wirt", "totp:000000" if code != "000000" else "totp:000001", **{"tfa-challenge": data["ticket"]})[0].status == 401
    answer, body = log_in(node, "two@wirt", f"totp:{code}", **{"tfa-challenge": data["ticket"]})
    assert answer.status == 200 and "NeedTFA" not in body["data"]
    assert log_in(node, "two@wirt", PASSWORD, otp=code)[0].status == 401  # used once


def test_limits(node):
    node.owner("POST", "/access/users", {"userid": "eve@wirt", "password": PASSWORD})
    for _ in range(8):
        assert log_in(node, "eve@wirt", "wrong password")[0].status == 401
    assert log_in(node, "eve@wirt", PASSWORD)[0].status == 401  # locked out, though it is right now
    with open(f"{node.state}/audit.log", encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    assert any(line["user"] == "eve@wirt" and "too many" not in line["result"] and line["act"] == "log in" for line in lines)


def test_paths(node):
    """No name leads out of its folder: neither a file's that is brought, nor a volume's, nor a snippet's, nor a datastore's."""
    made = node.owner("POST", "/access/users/root@wirt/token/paths", {"privsep": 0})
    by = {"Authorization": f"PVEAPIToken={made['full-tokenid']}={made['value']}"}
    here = "/api2/json/nodes/testnode/storage/local"
    for name in "../x.iso", "/etc/x.iso", "a/b.iso", ".x.iso", "..", "a\u0000.iso":
        body = (f'--b\r\nContent-Disposition: form-data; name="content"\r\n\r\niso\r\n--b\r\n'
                f'Content-Disposition: form-data; name="filename"; filename="{name}"\r\n\r\nbytes\r\n--b--\r\n')
        answer, _ = ask(node, "POST", f"{here}/upload", raw_body=body, Content_Type="multipart/form-data; boundary=b", **by)
        assert answer.status in (400, 501), (name, answer.status, answer.reason)
    for volume in "local:iso/../../store.db", "local:../x", "iso/..%2f..%2fstore.db", "local:100/../../../key", "local:snippets/../../../cert.pem", "local:/etc/passwd":
        for method in "GET", "DELETE":
            answer, body = ask(node, method, f"{here}/content/{volume}", **by)
            # Dots are taken out before a path is looked at: what is left may be a folder of the interface, which tells its branches.
            listing = method == "GET" and answer.status == 200 and isinstance(body["data"], list)
            assert listing or answer.status in (400, 404, 500, 501), (method, volume, answer.status, body)
    node.owner("POST", "/nodes/testnode/qemu", {"vmid": 150, "memory": 64})
    config = "/api2/json/nodes/testnode/qemu/150/config"
    for key, value in ("cicustom", "user=local:snippets/../../store.db"), ("ide2", "local:iso/../../../etc/passwd,media=cdrom"), ("virtio1", "../x:1"), \
            ("virtio1", "local:1,import-from=local:import/../../store.db"):
        answer, body = ask(node, "PUT", config, {key: value}, **by)
        assert answer.status in (400, 500), (key, value, answer.status)
        assert key not in ask(node, "GET", config, **by)[1]["data"], value
    assert ask(node, "POST", "/api2/json/storage", {"storage": "../x", "type": "dir", "path": "/tmp/x"}, **by)[0].status == 400
    for reason in "a\r\nSet-Cookie: b=c", "a\nX: y":
        answer, _ = ask(node, "GET", "/api2/json/storage/" + urllib.parse.quote(reason), **by)
        assert not answer.getheader("Set-Cookie") and not answer.getheader("X") and "\n" not in answer.reason
        answer, _ = ask(node, "PUT", config, {"net0": reason}, **by)
        assert answer.status == 400 and not answer.getheader("Set-Cookie")


def test_bad_requests(node):
    # Refused by what it announces, before it is sent.
    assert ask(node, "POST", "/api2/json/access/ticket", raw_body=b"", Content_Type="application/json", Content_Length="600000")[0].status == 413
    deep = '{"username": ' + "[" * 1000 + "]" * 1000 + "}"
    assert ask(node, "POST", "/api2/json/access/ticket", raw_body=deep, Content_Type="application/json")[0].status == 400
    assert ask(node, "POST", "/api2/json/access/ticket", raw_body="<x/>", Content_Type="text/xml")[0].status == 415
    for path in "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/assets/..%2f..%2fstore.db", "/store.db", "/.git/config":
        assert ask(node, "GET", path)[0].status in (403, 404), path
    answer, _ = ask(node, "GET", "/api2/json/x%0d%0aSet-Cookie:%20a=b")
    assert answer.status in (400, 401, 403, 404, 501) and not answer.getheader("Set-Cookie")
    answer, body = ask(node, "GET", "/api2/extjs/version")
    assert answer.status == 200 and body["success"] == 0 and body["status"] == 401
    assert ask(node, "GET", "/api2/xml/version")[0].status == 501
    answer, _ = ask(node, "GET", "/api2/json/version")
    assert answer.getheader("X-Frame-Options") == "DENY" and answer.getheader("X-Content-Type-Options") == "nosniff"
    assert answer.getheader("Content-Security-Policy") == "default-src 'none'; frame-ancestors 'none'"
    # Too much, of each kind: refused, and the connection goes on to be served.
    many = "&".join(f"p{i}=1" for i in range(3000))
    assert ask(node, "POST", "/api2/json/access/ticket", raw_body=many, Content_Type="application/x-www-form-urlencoded")[0].status == 400
    assert ask(node, "GET", "/api2/json/version", Cookie="PVEAuthCookie=" + "x" * 5000)[0].status in (400, 431)
    assert ask(node, "POST", "/api2/json/access/ticket", raw_body='{"username": "a\\u0000b", "password": "x"}', Content_Type="application/json")[0].status == 400


def main():
    with Node() as node:
        test_tickets(node)
        test_second_factor(node)
        test_bad_requests(node)
        test_paths(node)
        test_limits(node)


main()
