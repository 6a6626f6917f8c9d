// SPDX-License-Identifier: Apache-2.0
// The web page as people use it, in Chromium, against a wirtd that page_test.py has started. It has a template (100, "busybox") and the
// user root@wirt; the address, password and node come in the environment. Pictures of each main view go to SCREENSHOTS.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { createInterface } from "node:readline";
import { Person, browser, readQr, totp } from "./person.mjs";

const { ADDRESS, PASSWORD, NODE, FOLDER, SITE } = process.env;

async function servedSafely() {
    const answer = await fetch(`${ADDRESS}/`);
    const policy = answer.headers.get("content-security-policy");
    assert.match(policy, /default-src 'self'/);
    assert.match(policy, /frame-ancestors 'none'/);
    assert.match(policy, /connect-src 'self'(;|$)/);
    assert.equal(answer.headers.get("x-content-type-options"), "nosniff");
    assert.equal(answer.headers.get("x-frame-options"), "DENY");
    assert.match(await answer.text(), /<script type="module"/);
}

/** What a camera reads off the code on the screen. */
async function scanned(person) {
    const [size, path] = await person.page.getByRole("img", { name: "QR code of the secret" }).evaluate((svg) => [svg.viewBox.baseVal.width, svg.lastElementChild.getAttribute("d")]);
    const scale = 4;
    const pixels = new Uint8ClampedArray((size * scale) ** 2 * 4).fill(255);
    const black = (x, y) => pixels.fill(0, (y * size * scale + x) * 4, (y * size * scale + x) * 4 + 3);
    for (const [, x, y] of path.matchAll(/M(\d+) (\d+)h/g)) for (let at = 0; at < scale * scale; at++) black(x * scale + (at % scale), y * scale + Math.floor(at / scale));
    return readQr(pixels, size * scale, size * scale)?.data;
}

/** A wrong password is told in the form; a second factor is added, then asked for, and a wrong code is told, too. */
async function logsIn(root) {
    await root.picture("login");
    await root.accessible("the log-in page");
    await root.logIn("root", "not this one");
    await root.sees(root.page.getByRole("alert").filter({ hasText: "Authentication failed" }));
    await root.picture("login-refused");
    await root.logIn("root", PASSWORD);
    await root.sees(root.page.getByRole("heading", { name: "Overview" }));
    await root.page.getByRole("link", { name: "Users and rights" }).click();
    await root.tab("My account");
    await root.button("Add a second factor").click();
    const secret = (await root.dialog("Add a second factor").locator("code.secret").innerText()).replaceAll(" ", "");
    const uri = new URL(await scanned(root));
    assert.equal(`${uri.protocol}//${uri.host}${uri.pathname}`, "otpauth://totp/wirt:root%40wirt");
    assert.equal(uri.searchParams.get("secret"), secret);
    await root.picture("second-factor");
    await root.accessible("the second factor");
    await root.page.getByRole("textbox", { name: "Code" }).fill(totp(secret));
    await root.button("Add").click();
    await root.sees(root.row("Second factors", "totp"));
    await root.button("Log out").click();
    await root.logIn("root", PASSWORD);
    const code = root.page.getByLabel("Code of your second factor");
    await code.fill(totp(secret) === "000000" ? "000001" : "000000");
    await root.button("Log in").click();
    await root.sees(root.page.getByRole("alert").filter({ hasText: "not the code of now" }));
    await root.picture("login-second-factor");
    await root.button("Log in as somebody else").click();
    await root.logIn("root", PASSWORD);
    await code.fill(totp(secret));
    await root.button("Log in").click();
    await root.sees(root.row("Second factors", "totp")); // back where it was
}

async function creates(root) {
    await root.page.getByRole("link", { name: "Overview" }).click();
    await root.sees(root.row("Guests", "busybox"));
    await root.button("Create VM").click();
    const dialog = root.dialog("Create VM");
    await dialog.getByLabel("Name").fill("web 1");
    await root.sees(dialog.getByLabel("ID").and(root.page.locator(":valid"))); // the node has told which is free
    await root.button("Create").click();
    await root.sees(dialog.getByRole("alert")); // what is wrong is told in the dialog
    await dialog.getByLabel("Name").fill("web1");
    await dialog.getByLabel("ID").fill("100");
    await root.button("Create").click();
    await root.sees(dialog.getByRole("alert").filter({ hasText: "100 already exists" }));
    await dialog.getByLabel("ID").fill("101");
    assert.equal(await dialog.getByRole("alert").count(), 0); // what was wrong is being mended
    await root.picture("create");
    await root.accessible("the wizard");
    await root.button("Create").click();
    await root.told("Create web1: done");
    await root.told("Start web1: done");
}

/** What stands in the terminal, as the one who looks at it sees it. */
const screen = (person, text) => person.sees(person.page.locator(".xterm-rows", { hasText: text }));

async function typesInConsole(root) {
    await root.seesText("Connected to the first serial port");
    await screen(root, "/ #");
    await root.page.locator(".xterm").click();
    await root.page.keyboard.type("echo answer=$((6*7))\n");
    await screen(root, "answer=42");
    await root.picture("console");
}

/** As of a terminal: what is marked is copied, what is pasted is typed, the window's size is the terminal's, Shift+Tab leads out. */
async function copiesAndPastes(root) {
    await root.page.context().grantPermissions(["clipboard-read", "clipboard-write"], { origin: ADDRESS });
    await root.page.evaluate(() => navigator.clipboard.writeText("echo pasted=$((5*5))"));
    await root.page.keyboard.press("Control+Shift+V");
    await root.page.keyboard.press("Enter");
    await screen(root, "pasted=25");
    await root.page.locator(".xterm-rows > div", { hasText: /^pasted=25/ }).dblclick({ position: { x: 12, y: 6 } }); // marks a word
    await root.page.keyboard.press("Control+Shift+C");
    assert.match(await root.page.evaluate(() => navigator.clipboard.readText()), /^pasted/);
    const rows = () => root.page.locator(".xterm-rows > div").count();
    const before = await rows();
    await root.page.setViewportSize({ width: 1280, height: 600 });
    await root.page.waitForFunction((many) => document.querySelectorAll(".xterm-rows > div").length < many, before);
    await root.page.setViewportSize({ width: 1280, height: 800 });
    await root.page.keyboard.press("Shift+Tab");
    assert.equal(await root.page.evaluate(() => document.activeElement?.closest(".console") ?? null), null);
}

/** The node's daemon is killed and comes back: who was logged in still is, the console goes on, and what was wrong is told meanwhile. */
async function outlivesTheDaemon(root) {
    const answers = createInterface({ input: process.stdin });
    const back = new Promise((resolve) => answers.once("line", resolve));
    console.log("wants wirtd killed and started again");
    await root.sees(root.page.getByRole("alert").filter({ hasText: /console broke|does not answer/ }));
    await back;
    answers.close();
    await root.seesText("Connected to the first serial port");
    await root.page.locator(".xterm").click();
    await root.page.keyboard.type("echo again=$((3*3))\n");
    await screen(root, "again=9");
    await root.sees(root.button("Log out"));
    await root.page.getByText("The node does not answer").waitFor({ state: "detached" });
}

async function looksAtIt(root) {
    await root.tab("Summary");
    await root.sees(root.page.locator(".uplot canvas"));
    await root.seesText(/^CPU used/);
    await root.seesText(/^10\.\d+\.\d+\.\d+ \(net0\)|^none known$/); // the network's, as no agent runs there; user-mode networks have none
    assert.match(await root.page.title(), /^web1 .*wirt$/);
    await root.picture("summary");
    await root.accessible("a machine");
    await root.page.getByRole("list", { name: "Nodes" }).getByRole("link").click();
    await root.sees(root.page.locator(".uplot canvas"));
    await root.sees(root.row("Networks", "vmbr0"));
    await root.picture("node");
    await root.page.getByLabel("The last").selectOption("week");
}

/** The search is reached, and its find opened, without a mouse. */
async function searches(root) {
    await root.page.getByRole("heading", { name: `Node ${NODE}` }).click();
    await root.page.keyboard.press("/");
    await root.page.keyboard.type("web running");
    const machines = root.page.getByRole("list", { name: "Virtual machines" }).getByRole("link");
    await root.sees(machines.filter({ hasText: "web1" }));
    assert.equal(await machines.count(), 1);
    await root.page.keyboard.press("ArrowDown");
    await root.page.keyboard.press("Enter");
    await root.sees(root.page.getByRole("heading", { name: "web1" }));
    await root.page.getByLabel("Search guests").fill("");
}

async function changesHardware(root) {
    await root.tab("Hardware");
    await root.button("Edit memory").click();
    await root.dialog("Memory").getByLabel("MiB").fill("70000");
    await root.button("Save").click();
    await root.sees(root.dialog("Memory").locator(".field.wrong").getByRole("alert")); // beside its field
    await root.picture("refused");
    await root.dialog("Memory").getByLabel("MiB").fill("192");
    await root.button("Save").click();
    await root.sees(root.row("Hardware", "128 MiB at the next start: 192 MiB")); // it runs with what it has
    await root.picture("pending");
    await root.button("Take back memory").click();
    await root.told("Take back the change of memory: done");
    await root.row("Hardware", "at the next start").waitFor({ state: "detached" });
    await root.button("Edit memory").click();
    await root.dialog("Memory").getByLabel("MiB").fill("192");
    await root.button("Save").click();
    await root.sees(root.row("Hardware", "at the next start: 192 MiB"));
    await root.button("Add disk").click();
    await root.dialog("Add a disk (virtio1)").getByLabel("Size in GiB").fill("2");
    await root.button("Add").click();
    await root.sees(root.row("Hardware", "vm-101-disk-1").filter({ hasText: "size=2G" }));
    await root.picture("hardware");
    await root.accessible("hardware");
    await root.tab("Options");
    await root.page.getByLabel("Notes").fill("Serves the front page.");
    await root.button("Save").click();
    await root.told("Options: saved");
    await root.picture("options");
    await root.tab("Cloud-init");
    await root.page.getByLabel("User").fill("anna");
    // What is typed while the saved configuration is fetched again stays.
    let answer;
    const held = new Promise((resolve) => (answer = resolve));
    await root.page.route("**/config", async (route) => {
        if (route.request().method() === "GET") await held;
        await route.continue();
    });
    const fetched = root.page.waitForResponse((response) => response.url().endsWith("/config") && response.request().method() === "GET");
    await root.button("Save").click();
    await root.told("Cloud-init: saved");
    await root.page.getByLabel("DNS server").fill("192.0.2.53");
    answer();
    await (await fetched).finished();
    await root.page.unroute("**/config");
    await root.page.evaluate(() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(() => requestAnimationFrame(drawn)))));
    assert.equal(await root.page.getByLabel("DNS server").inputValue(), "192.0.2.53");
    await root.page.getByLabel("DNS server").fill("");
    await root.sees(root.page.locator("button[disabled]", { hasText: "Save" })); // nothing is left to save
    await root.picture("cloud-init");
}

async function stopsAndSnapshots(root) {
    await root.button("Stop").click();
    await root.dialog("Stop web1?").getByRole("button", { name: "Stop" }).click();
    await root.told("Stop web1: done");
    await root.sees(root.button("Start"));
    await root.tab("Snapshots");
    await root.button("Take snapshot").click();
    await root.dialog("Take a snapshot").getByLabel("Name").fill("before");
    await root.button("Take").click();
    await root.sees(root.row("Snapshots", "before"));
    await root.picture("snapshots");
    await root.button("Go back to before").click();
    await root.dialog("Go back to before?").getByRole("button", { name: "Go back" }).click();
    await root.told("Go back to before: done");
}

async function backsUp(root) {
    await root.tab("Backups");
    await root.button("Back up now").click();
    await root.told("Back up web1: done");
    await root.sees(root.row("Backups", "backup/"));
    await root.picture("backups");
    await root.row("Backups", "backup/").getByRole("button", { name: "Restore" }).click();
    const dialog = root.dialog("Restore this backup?");
    await dialog.getByLabel("Type 101 to confirm").fill("101");
    await dialog.getByRole("button", { name: "Restore" }).click();
    await root.told("Restore: done");
    await root.row("Backups", "backup/").getByRole("button", { name: "Remove" }).click();
    await root.dialog("Remove this backup?").getByRole("button", { name: "Remove" }).click();
    await root.told("Remove the backup: done");
}

/** The node fetches what stands at an address: a wrong checksum is told, the right one makes a volume. */
async function fetches(root, sum) {
    const dialog = root.dialog("Fetch a file");
    for (const [checksum, outcome] of [["0".repeat(64), /Fetch fetched.iso: .*mismatch/], [sum, "Fetch fetched.iso: done"]]) {
        await root.button("Fetch from an address").click();
        await dialog.getByLabel("Address").fill(`${SITE}/images/tools.iso?version=1`);
        assert.equal(await dialog.getByLabel("Its name here").inputValue(), "tools.iso"); // as the address has it
        await dialog.getByLabel("Its name here").fill("fetched.iso");
        await dialog.getByLabel("Checksum").fill(checksum);
        await dialog.getByRole("button", { name: "Fetch" }).click();
        await root.told(outcome);
    }
    await root.row("Volumes", "local:iso/fetched.iso").getByRole("button", { name: "Remove" }).click();
    await root.dialog("Remove this volume?").getByRole("button", { name: "Remove" }).click();
    await root.row("Volumes", "local:iso/fetched.iso").waitFor({ state: "detached" });
}

/** A file of some size over a slow line: how far it is can be seen. What is no file that the node takes is refused where it was sent. */
async function uploads(root) {
    await root.page.getByRole("list", { name: "Datastores" }).getByRole("link").click();
    await root.sees(root.row("Volumes", "vm-101-disk"));
    const line = await root.page.context().newCDPSession(root.page);
    await line.send("Network.enable");
    await line.send("Network.emulateNetworkConditions", { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: 4 << 20 });
    const iso = { name: "tools.iso", mimeType: "application/octet-stream", buffer: Buffer.alloc(6 << 20, 7) };
    const sum = createHash("sha256").update(iso.buffer).digest("hex");
    const upload = root.dialog("Upload a file");
    const send = async (file, checksum) => {
        await root.button("Upload").first().click();
        await upload.getByLabel("File", { exact: true }).setInputFiles(file);
        await upload.getByLabel("Checksum").fill(checksum);
        await upload.getByRole("button", { name: "Upload" }).click();
    };
    await send(iso, sum);
    await root.sees(root.page.getByRole("progressbar", { name: "Sent" }));
    await root.picture("upload");
    await line.detach();
    await root.told("Upload tools.iso: done");
    await root.sees(root.row("Volumes", "local:iso/tools.iso"));
    await send({ ...iso, name: "other.iso", buffer: Buffer.alloc(1000, 1) }, sum);
    await root.told(/Upload other.iso: checksum mismatch/); // it has another checksum
    assert.equal(await root.row("Volumes", "other.iso").count(), 0);
    await send({ ...iso, name: "disk.raw", buffer: Buffer.alloc(1 << 20, 1) }, "");
    await root.sees(root.row("Volumes", "local:import/disk.raw"));
    await root.picture("datastore");
    await fetches(root, sum);
    await root.row("Volumes", "vm-101-disk").first().getByRole("button", { name: "Remove" }).click();
    await root.dialog("Remove this volume?").getByRole("button", { name: "Remove" }).click();
    await root.sees(root.page.getByRole("alert").filter({ hasText: /in use|uses|used/ })); // a VM's disk
    await root.page.keyboard.press("Escape");
    await root.button("Add datastore").click();
    const dialog = root.dialog("Add a datastore");
    await dialog.getByLabel("Name").fill("second");
    await dialog.getByLabel("Folder on the node").fill("not a whole path");
    await dialog.getByRole("button", { name: "Add" }).click();
    await root.sees(dialog.getByRole("alert").filter({ hasText: "path is absolute" }));
    await dialog.getByLabel("Folder on the node").fill(FOLDER);
    await dialog.getByRole("button", { name: "Add" }).click();
    await root.sees(root.page.getByRole("heading", { name: "Datastore second" }));
    await root.button("Remove datastore").click();
    await root.dialog("Remove the datastore second?").getByLabel("Type second to confirm").fill("second");
    await root.dialog("Remove the datastore second?").getByRole("button", { name: "Remove" }).click();
    await root.page.getByRole("list", { name: "Datastores" }).getByRole("link", { name: "second" }).waitFor({ state: "detached" });
}

/** By the keyboard alone: a machine of an image that was uploaded, with an installation image in a drive. */
async function createsByKeys(root) {
    const dialog = root.dialog("Create VM");
    await root.button("Create VM").press("Enter");
    await root.sees(dialog);
    await root.page.keyboard.press("Escape");
    await dialog.waitFor({ state: "detached" });
    assert.equal(await root.page.evaluate(() => document.activeElement.textContent.trim()), "Create VM"); // back where it was
    await root.button("Create VM").press("Enter");
    await root.page.waitForFunction(() => document.activeElement.matches("dialog input"));
    await root.page.waitForFunction(() => document.querySelector("dialog input[type=number]").value !== ""); // the ID that the node proposes
    await root.page.keyboard.type("imported");
    await root.page.keyboard.press("Tab"); // the ID, as proposed
    await root.page.keyboard.press("Tab");
    await root.page.keyboard.type("Disk image");
    await root.sees(dialog.getByPlaceholder("as the image"));
    const start = dialog.getByLabel("Start it at once");
    while (!(await start.evaluate((box) => box === document.activeElement))) await root.page.keyboard.press("Tab");
    await root.page.keyboard.press("Space");
    await root.page.keyboard.press("Enter");
    await root.told("Create imported: done");
    await root.sees(root.page.getByRole("heading", { name: "imported" }));
    await root.tab("Hardware");
    await root.sees(root.row("Hardware", "size=1M"));
    await root.button("Add drive").click();
    await root.dialog("Add a drive (ide0)").getByRole("button", { name: "Add" }).click();
    await root.sees(root.row("Hardware", "none,media=cdrom"));
}

/** From an installation image: it lies in a drive beside an empty disk, and is not taken away meanwhile. */
async function createsFromMedium(root) {
    const dialog = root.dialog("Create VM");
    await root.button("Create VM").click();
    await dialog.getByLabel("Name").fill("installed");
    await root.sees(dialog.getByLabel("ID").and(root.page.locator(":valid")));
    await dialog.getByLabel("From").selectOption({ label: "Installation image local:iso/tools.iso" });
    await dialog.getByLabel("Disk in GiB").fill("2");
    await dialog.getByLabel("Start it at once").uncheck();
    await dialog.getByRole("button", { name: "Create" }).click();
    await root.told("Create installed: done");
    await root.sees(root.page.getByRole("heading", { name: "installed" }));
    await root.tab("Hardware");
    await root.sees(root.row("Hardware", "local:iso/tools.iso").filter({ hasText: "media=cdrom" }));
    await root.sees(root.row("Hardware", "size=2G"));
    await root.page.getByRole("list", { name: "Datastores" }).getByRole("link").click();
    const medium = root.row("Volumes", "local:iso/tools.iso");
    await medium.getByRole("button", { name: "Remove" }).click();
    await root.dialog("Remove this volume?").getByRole("button", { name: "Remove" }).click();
    await root.sees(root.page.getByRole("alert").filter({ hasText: /in use/ }));
    await root.page.keyboard.press("Escape");
}

/** Several at once: one task, which its log tells each of; and one that takes long is cancelled. */
async function actsOnSeveral(root) {
    await root.page.getByRole("link", { name: "Overview" }).click();
    await root.page.getByLabel("Choose web1").check();
    await root.page.getByLabel("Choose imported").check();
    await root.sees(root.page.getByRole("status").filter({ hasText: "2 VMs chosen" }));
    await root.picture("several");
    await root.accessible("the overview");
    await root.page.getByRole("group", { name: "With those chosen" }).getByRole("button", { name: "Start" }).click();
    await root.told("Start 2 VMs: done");
    const chosen = root.page.getByRole("group", { name: "With those chosen" });
    for (const what of ["Pause", "Back up"]) {
        await root.page.getByLabel("Choose web1").check();
        await root.page.getByLabel("Choose imported").check();
        await chosen.getByRole("button", { name: what }).click();
        await root.told(`${what} 2 VMs: done`);
        for (const name of ["web1", "imported"]) await root.sees(root.row("Guests", name).filter({ hasText: "paused" })); // a backup leaves it so
    }
    for (const name of ["web1", "imported"]) {
        await root.row("Guests", name).getByRole("link").click();
        await root.button("Resume").click();
        await root.told(`Resume ${name}: done`);
        await root.tab("Backups");
        await root.sees(root.row("Backups", "backup/"));
        await root.page.getByRole("link", { name: "Overview" }).click();
        await root.sees(root.row("Guests", name).filter({ hasText: "running" }));
    }
    await root.page.getByLabel("Choose web1").check();
    await root.page.getByRole("group", { name: "With those chosen" }).getByRole("button", { name: "Shut down" }).click();
    await root.page.getByRole("link", { name: "Tasks", exact: true }).first().click();
    const running = root.row("Tasks", "Shut down several").filter({ hasText: "running" }); // the guest has nothing that hears it
    await running.getByRole("button").click();
    await root.sees(root.page.getByRole("log"));
    await root.button("Stop the task").click();
    await running.waitFor({ state: "detached" });
    await root.button("Close").click();
    await root.page.locator(".message.bad", { hasText: "Shut down 1 VM" }).getByRole("button").click();
    await root.page.getByRole("link", { name: "Overview" }).click();
    await root.page.getByLabel("Choose all of Guests").check();
    await root.page.getByRole("group", { name: "With those chosen" }).getByRole("button", { name: "Stop" }).click();
    await root.dialog("Stop 3 VMs?").getByRole("button", { name: "Stop" }).click();
    await root.told("Stop 3 VMs: done");
}

/** On a tablet and on a phone nothing sticks out, and the lists are folded away where there is no room. */
async function isNarrow(root) {
    for (const [name, width] of [["tablet", 800], ["phone", 390]]) {
        await root.page.setViewportSize({ width, height: 844 });
        for (const place of ["", "guest/101", "guest/101/hardware", "access/roles", `node/${NODE}`, `storage/${NODE}/local`]) {
            await root.page.goto(`${ADDRESS}/#/${place}`);
            await root.sees(root.page.getByRole("heading", { level: 1 }));
            await root.fits(`${place} on a ${name}`);
            if (place === "" || place === "guest/101") await root.picture(`${name}-${place === "" ? "overview" : "guest"}`);
        }
    }
    const machines = root.page.getByRole("list", { name: "Virtual machines" });
    assert.ok(!(await machines.isVisible()));
    await root.button("Machines, nodes, datastores").click();
    await machines.getByRole("link", { name: /web1/ }).click();
    await root.sees(root.page.getByRole("heading", { name: "web1" }));
    await machines.waitFor({ state: "hidden" });
    await root.accessible("a phone's page");
    await root.page.setViewportSize({ width: 1280, height: 800 });
}

async function readsTasks(root) {
    await root.page.getByRole("link", { name: "Tasks", exact: true }).first().click();
    await root.sees(root.row("Tasks", "Go back to a snapshot"));
    assert.ok(await root.page.getByRole("table", { name: "Tasks", exact: true }).evaluate((table) => table.clientWidth <= table.parentElement.clientWidth), "logs are within sight");
    await root.picture("tasks");
    await root.row("Tasks", "Clone").getByRole("button").first().click();
    await root.sees(root.page.getByRole("log"));
    await root.picture("task-log");
    await root.button("Close").click();
}

async function managesPools(root) {
    await root.tab("Pools");
    await root.button("Add pool").click();
    await root.dialog("Add a pool").getByLabel("Name").fill("front");
    await root.button("Add").click();
    const members = async (mark) => {
        await root.button("Members of front").click();
        const dialog = root.dialog("Members of front");
        await mark(dialog.getByLabel("web1 (101)"));
        await mark(dialog.getByLabel("local", { exact: true }));
        return dialog;
    };
    const dialog = await members((box) => box.check());
    await root.picture("pool");
    await root.accessible("the members of a pool");
    await dialog.getByRole("button", { name: "Save" }).click();
    await root.sees(root.row("Pools", "front").filter({ hasText: "web1" }));
    await root.button("Remove front").click();
    const removal = root.dialog("Remove the pool front?");
    await removal.getByRole("button", { name: "Remove" }).click();
    await root.sees(removal.getByRole("alert").filter({ hasText: "not empty" })); // told where it was asked
    await removal.getByRole("button", { name: "Cancel" }).click();
    await (await members((box) => box.uncheck())).getByRole("button", { name: "Save" }).click();
    await root.sees(root.row("Pools", "front").filter({ hasNotText: "web1" }));
    await root.button("Remove front").click();
    await removal.getByRole("button", { name: "Remove" }).click();
    await root.row("Pools", "front").waitFor({ state: "detached" });
}

async function letsAnnaIn(root) {
    await root.page.getByRole("link", { name: "Users and rights" }).click();
    await root.button("Add user").click();
    await root.dialog("Add a user").getByLabel("User").fill("anna");
    await root.dialog("Add a user").getByLabel("Password").fill(PASSWORD);
    await root.button("Save").click();
    await root.sees(root.row("Users", "anna@wirt"));
    await root.button("Tokens anna@wirt").click();
    await root.page.getByLabel("Name of the new token").fill("ci");
    await root.button("Add token").click();
    await root.sees(root.page.locator("code.secret", { hasText: "PVEAPIToken=anna@wirt!ci=" }));
    await root.button("I have copied it").click();
    await root.picture("users");
    await root.tab("Roles");
    await root.button("Add role").click();
    await root.dialog("Add a role").getByLabel("Name").fill("Looker");
    await root.dialog("Add a role").getByLabel("VM.Audit", { exact: true }).check();
    await root.button("Save").click();
    await root.sees(root.row("Roles", "Looker").filter({ hasText: "VM.Audit" }));
    await root.button("Edit Looker").click();
    await root.picture("role");
    await root.dialog("Role Looker").getByLabel("VM.Snapshot", { exact: true }).check();
    await root.button("Save").click();
    await root.sees(root.row("Roles", "Looker").filter({ hasText: "VM.Snapshot" }));
    await root.button("Remove Looker").click();
    await root.dialog("Remove the role Looker?").getByRole("button", { name: "Remove" }).click();
    await root.row("Roles", "Looker").waitFor({ state: "detached" });
    await root.tab("Groups");
    await root.button("Add group").click();
    await root.dialog("Add a group").getByLabel("Name").fill("ops");
    await root.button("Add").click();
    await root.button("Members of ops").click();
    await root.dialog("Members of ops").getByLabel("Users").fill("anna@wirt");
    await root.button("Save").click();
    await root.sees(root.row("Groups", "ops").filter({ hasText: "anna@wirt" }));
    await root.button("Remove ops").click();
    await root.dialog("Remove the group ops?").getByRole("button", { name: "Remove" }).click();
    await root.row("Groups", "ops").waitFor({ state: "detached" });
    await managesPools(root);
    await root.tab("Rights");
    await root.button("Give a right").click();
    const right = root.dialog("Give a right");
    await right.getByLabel("Path", { exact: true }).fill("/vms/101");
    await right.getByLabel("Name").fill("anna@wirt");
    await right.getByLabel("Role").selectOption("PVEAuditor");
    await root.button("Give").click();
    await root.sees(root.row("Rights", "anna@wirt"));
    await root.picture("rights");
    await root.button("Help").click();
    await root.sees(root.dialog("Help").getByText(/This node: wirt \d/));
    await root.picture("help");
    const interfaces = await fetch(new URL(await root.page.getByRole("link", { name: "The interface (API) of this node" }).getAttribute("href"), ADDRESS));
    assert.match(await interfaces.text(), /\/nodes\/\{node\}\/qemu/);
    await root.button("Close").click();
}

/** Sees what she may, is refused the rest where she asked for it, by words that say what is missing. */
async function annaIsRefused(chrome) {
    const anna = await Person.at(chrome, ADDRESS, { colorScheme: "dark" });
    await anna.logIn("anna", PASSWORD);
    await anna.sees(anna.row("Guests", "web1"));
    assert.equal(await anna.row("Guests", "busybox").count(), 0);
    await anna.picture("overview-dark");
    const back = () => anna.page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const dark = await back();
    await anna.button("Colours: auto").click();
    await anna.sees(anna.button("Colours: light"));
    assert.notEqual(await back(), dark);
    await anna.button("Colours: light").click();
    assert.equal(await back(), dark);
    await anna.row("Guests", "web1").getByRole("link").click();
    assert.ok(await anna.button("Start").isDisabled());
    await anna.picture("guest-dark");
    assert.match(await anna.button("Start").getAttribute("title"), /VM.PowerMgmt at .vms.101/);
    await anna.accessible("a machine in the dark");
    await anna.page.goto(`${ADDRESS}/#/storage/${NODE}/local`);
    const refused = anna.page.getByRole("alert").filter({ hasText: /anna@wirt may not do this at \/storage\/local: it needs Datastore/ });
    await anna.sees(refused);
    await anna.picture("forbidden");
    await anna.page.context().clearCookies(); // as when the ticket has ended
    await anna.seesText("Your session has ended");
    await anna.leave();
}

async function removes(root) {
    await root.page.getByRole("link", { name: "Overview" }).click();
    await root.row("Guests", "web1").getByRole("link").click();
    await root.button("Remove").click();
    const dialog = root.dialog("Remove web1?");
    await dialog.getByRole("button", { name: "Remove" }).click();
    await root.sees(dialog.getByRole("alert").filter({ hasText: "type 101 to go on" }));
    await dialog.getByLabel("Type 101 to confirm").fill("101");
    await dialog.getByRole("button", { name: "Remove" }).click();
    await root.told("Remove web1: done");
    await root.sees(root.page.getByRole("heading", { name: "Overview" }));
    await root.row("Guests", "web1").waitFor({ state: "detached" });
    await root.picture("overview");
}

const chrome = await browser();
const root = await Person.at(chrome, ADDRESS);
let at = "start";
try {
    await servedSafely();
    for (const step of [logsIn, creates, typesInConsole, copiesAndPastes, outlivesTheDaemon, looksAtIt, searches, changesHardware, stopsAndSnapshots, backsUp, uploads, createsByKeys, createsFromMedium, actsOnSeveral, readsTasks, letsAnnaIn, isNarrow]) {
        at = step.name;
        const begun = Date.now();
        await step(root);
        console.log(`${at}: ${((Date.now() - begun) / 1000).toFixed(1)} s`);
    }
    at = "annaIsRefused";
    await annaIsRefused(chrome);
    at = "removes";
    await removes(root);
    await root.leave();
} catch (error) {
    console.log(`failed in ${at}; the page said: ${await root.page.locator("body").innerText().catch(() => "nothing")}`);
    await root.page.screenshot({ path: `${process.env.SCREENSHOTS ?? "."}/failed.png` }).catch(() => {});
    throw error;
} finally {
    await chrome.close();
}
