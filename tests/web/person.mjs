// SPDX-License-Identifier: Apache-2.0
// A person at the page: a browser, what one does in it again and again, and what is wrong on every page: a request to elsewhere, an
// error in the page's own code, a control without a name.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const packages = createRequire(fileURLToPath(new URL("../../web/package.json", import.meta.url)));
const { chromium } = packages("playwright-core");
const axe = readFileSync(packages.resolve("axe-core/axe.min.js"), "utf8");
export const { default: readQr } = packages("jsqr");

/** Long enough for a busy machine; what is waited for comes, or the test fails. */
export const PATIENCE_MS = Number(process.env.PATIENCE_MS ?? 60_000);

export async function browser() {
    const flags = process.getuid() === 0 ? ["--no-sandbox"] : [];
    return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: [...flags, "--disable-gpu", "--disable-dev-shm-usage"] });
}

/** The code that an authenticator shows now for a secret in base32. */
export function totp(secret, now = Date.now()) {
    const bits = [...secret].map((letter) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(letter).toString(2).padStart(5, "0")).join("");
    const key = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
    const counter = Buffer.alloc(8);
    counter.writeBigUInt64BE(BigInt(Math.floor(now / 30_000)));
    const mac = createHmac("sha1", key).update(counter).digest();
    const at = mac.at(-1) & 15;
    return String((mac.readUInt32BE(at) & 0x7fffffff) % 1_000_000).padStart(6, "0");
}

// What has no name in the page: a screen reader would say only "button".
function nameless() {
    const text = (element) => (element?.textContent ?? "").trim();
    const named = (element) =>
        element.getAttribute("aria-label") || text(element) || element.title || [...(element.labels ?? [])].map(text).join("") || element.querySelector?.("img[alt]:not([alt=''])");
    return [...document.querySelectorAll("button, a[href], input:not([hidden]), select, textarea, dialog, table, [role]")]
        .filter((element) => element.checkVisibility() && !named(element) && !element.getAttribute("aria-labelledby") && !["presentation", "none", "alert", "status", "log"].includes(element.getAttribute("role")))
        .map((element) => element.outerHTML.slice(0, 200));
}

export class Person {
    static async at(chrome, address, options = {}) {
        const context = await chrome.newContext({ ignoreHTTPSErrors: true, viewport: { width: 1280, height: 800 }, ...options });
        const person = new Person();
        person.address = address;
        person.page = await context.newPage();
        person.page.setDefaultTimeout(PATIENCE_MS);
        person.wrong = [];
        person.page.on("pageerror", (error) => person.wrong.push(`in the page's code: ${error.stack ?? error}`));
        person.page.on("request", (request) => {
            if (!request.url().startsWith(address) && !/^(data|blob):/.test(request.url())) person.wrong.push(`a request to elsewhere: ${request.url()}`);
        });
        person.page.on("console", (message) => {
            if (/Content Security Policy|Refused to/.test(message.text())) person.wrong.push(message.text());
        });
        await person.page.goto(address);
        return person;
    }

    button(name) {
        return this.page.getByRole("button", { name, exact: true });
    }

    dialog(name) {
        return this.page.getByRole("dialog", { name });
    }

    /** A row of a table that has this text. */
    row(table, text) {
        return this.page.getByRole("table", { name: table, exact: true }).getByRole("row").filter({ hasText: text });
    }

    async sees(locator) {
        await locator.first().waitFor();
    }

    async seesText(text) {
        await this.sees(this.page.getByText(text));
    }

    async tab(name) {
        await this.page.getByRole("navigation", { name: /Sides of this VM|Users and rights/ }).getByRole("link", { name, exact: true }).click();
    }

    async logIn(name, password) {
        await this.page.getByLabel("User name").fill(name);
        await this.page.getByLabel("Password").fill(password);
        await this.button("Log in").click();
    }

    /** What the task in the corner ended with. */
    async told(text) {
        await this.sees(this.page.locator(".message", { hasText: text }));
        await this.page.locator(".message", { hasText: text }).first().getByRole("button", { name: "Dismiss" }).click({ timeout: 5000 }).catch(() => {}); // it goes by itself, too
    }

    /** Chromium's own rules of accessibility find nothing: names, roles, contrast, order, what the keyboard reaches. */
    async accessible(where) {
        await this.page.evaluate(`${axe}; 0`);
        const found = await this.page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"], resultTypes: ["violations"] }));
        const said = found.violations.flatMap((rule) => rule.nodes.map((node) => `${rule.id}: ${node.target.join(" ")}: ${node.failureSummary}`));
        assert.deepEqual(said, [], `accessibility of ${where}`);
    }

    /** Nothing sticks out at the side. */
    async fits(where) {
        const wide = await this.page.evaluate(() => [document.documentElement, document.querySelector("main")].map((one) => one.scrollWidth - one.clientWidth));
        assert.ok(Math.max(...wide) <= 0, `${where} is wider than the window by ${wide} pixels`);
    }

    async picture(name) {
        const unnamed = await this.page.evaluate(nameless);
        assert.deepEqual(unnamed, [], `without an accessible name, in ${name}`);
        const folder = process.env.SCREENSHOTS;
        if (!folder) return;
        mkdirSync(folder, { recursive: true });
        await this.page.screenshot({ path: `${folder}/${name}.png` });
    }

    leave() {
        assert.deepEqual(this.wrong, []);
        return this.page.context().close();
    }
}
