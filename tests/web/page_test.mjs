// SPDX-License-Identifier: Apache-2.0
// The web page as people use it, in Chromium, against a wirtd that page_test.py has started. It has a template (100, "busybox") and the
// user root@wirt; the address, password and node come in the environment. Pictures of each main view go to SCREENSHOTS.
import assert from "node:assert/strict";
import { Person, browser, totp } from "./person.mjs";

const { ADDRESS, PASSWORD, NODE } = process.env;

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

/** A wrong password is told in the form; a second factor is added, then asked for, and a wrong code is told, too. */
async function logsIn(root) {
    await root.picture("login");
    await root.logIn("root", "not this one");
    await root.sees(root.page.getByRole("alert").filter({ hasText: "Authentication failed" }));
    await root.picture("login-refused");
    await root.logIn("root", PASSWORD);
    await root.sees(root.page.getByRole("heading", { name: "Overview" }));
    await root.page.getByRole("link", { name: "Users and rights" }).click();
    await root.tab("My account");
    await root.button("Add a second factor").click();
    const secret = (await root.dialog("Add a second factor").locator("code.secret").innerText()).replaceAll(" ", "");
    await root.page.getByLabel("Code").fill(totp(secret));
    await root.button("Add").click();
    await root.sees(root.row("Second factors", "totp"));
    await root.button("Log out").click();
    await root.logIn("root", PASSWORD);
    const code = root.page.getByLabel("Code of your second factor");
    await code.fill(totp(secret) === "000000" ? "000001" : "000000");
    await root.button("Log in").click();
    await root.sees(root.page.getByRole("alert"));
    await root.picture("login-second-factor");
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
    await root.button("Create").click();
    await root.sees(dialog.getByRole("alert")); // what is wrong is told in the dialog
    await dialog.getByLabel("Name").fill("web1");
    await dialog.getByLabel("ID").fill("100");
    await root.button("Create").click();
    await root.sees(dialog.getByRole("alert").filter({ hasText: "100 already exists" }));
    await dialog.getByLabel("ID").fill("101");
    await root.picture("create");
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

async function looksAtIt(root) {
    await root.tab("Summary");
    await root.sees(root.page.locator(".uplot canvas"));
    await root.seesText(/^CPU used/);
    await root.picture("summary");
    await root.page.getByRole("list", { name: "Nodes" }).getByRole("link").click();
    await root.sees(root.page.locator(".uplot canvas"));
    await root.picture("node");
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
    await root.sees(root.row("Hardware", "192 MiB"));
    await root.button("Add disk").click();
    await root.dialog("Add a disk (virtio1)").getByLabel("Size in GiB").fill("2");
    await root.button("Add").click();
    await root.sees(root.row("Hardware", "vm-101-disk-1").filter({ hasText: "size=2G" }));
    await root.picture("hardware");
    await root.tab("Options");
    await root.page.getByLabel("Notes").fill("Serves the front page.");
    await root.button("Save").click();
    await root.told("Options: saved");
    await root.picture("options");
    await root.tab("Cloud-init");
    await root.page.getByLabel("User").fill("anna");
    await root.button("Save").click();
    await root.told("Cloud-init: saved");
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
    await root.button("Go back").click();
    await root.dialog("Go back to before?").getByRole("button", { name: "Go back" }).click();
    await root.told("Go back to before: done");
}

async function backsUp(root) {
    await root.tab("Backups");
    await root.button("Back up now").click();
    await root.told("Back up web1: done");
    await root.sees(root.row("Backups", "backup/"));
    await root.picture("backups");
    await root.button("Restore").click();
    const dialog = root.dialog("Restore this backup?");
    await dialog.getByLabel("Type 101 to confirm").fill("101");
    await dialog.getByRole("button", { name: "Restore" }).click();
    await root.told("Restore: done");
    await root.button("Remove", { exact: true }).last().click();
    await root.dialog("Remove this backup?").getByRole("button", { name: "Remove" }).click();
    await root.told("Remove the backup: done");
}

/** A file of some size over a slow line: how far it is can be seen. What is no file that the node takes is refused where it was sent. */
async function uploads(root) {
    await root.page.getByRole("list", { name: "Datastores" }).getByRole("link").click();
    await root.sees(root.row("Volumes", "vm-101-disk"));
    const line = await root.page.context().newCDPSession(root.page);
    await line.send("Network.enable");
    await line.send("Network.emulateNetworkConditions", { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: 4 << 20 });
    await root.page.getByLabel("File to upload").setInputFiles({ name: "tools.iso", mimeType: "application/octet-stream", buffer: Buffer.alloc(6 << 20, 7) });
    await root.sees(root.page.getByRole("progressbar"));
    await root.picture("upload");
    await root.sees(root.row("Volumes", "local:iso/tools.iso"));
    await line.detach();
    await root.picture("datastore");
    await root.row("Volumes", "local:iso/tools.iso").getByRole("button", { name: "Remove" }).click();
    await root.dialog("Remove this volume?").getByRole("button", { name: "Remove" }).click();
    await root.row("Volumes", "local:iso/tools.iso").waitFor({ state: "detached" });
    await root.row("Volumes", "vm-101-disk").first().getByRole("button", { name: "Remove" }).click();
    await root.dialog("Remove this volume?").getByRole("button", { name: "Remove" }).click();
    await root.sees(root.page.getByRole("alert").filter({ hasText: /in use|uses|used/ })); // a VM's disk
    await root.page.keyboard.press("Escape");
}

async function readsTasks(root) {
    await root.page.getByRole("link", { name: "Tasks", exact: true }).first().click();
    await root.sees(root.row("Tasks", "Go back to a snapshot"));
    await root.picture("tasks");
    await root.row("Tasks", "Clone").getByRole("button").first().click();
    await root.sees(root.page.getByRole("log"));
    await root.picture("task-log");
    await root.button("Close").click();
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
    await root.tab("Rights");
    await root.button("Give a right").click();
    const right = root.dialog("Give a right");
    await right.getByLabel("Path", { exact: true }).fill("/vms/101");
    await right.getByLabel("Name").fill("anna@wirt");
    await right.getByLabel("Role").selectOption("PVEAuditor");
    await root.button("Give").click();
    await root.sees(root.row("Rights", "anna@wirt"));
    await root.picture("rights");
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
    await anna.page.goto(`${ADDRESS}/#/storage/${NODE}/local`);
    const refused = anna.page.getByRole("alert").filter({ hasText: /anna@wirt.*\/storage\/local.*Datastore/ });
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
    for (const step of [logsIn, creates, typesInConsole, looksAtIt, searches, changesHardware, stopsAndSnapshots, backsUp, uploads, readsTasks, letsAnnaIn]) {
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
