// SPDX-License-Identifier: Apache-2.0
// The page over a node with thousands of VMs (many_test.py): it draws those in sight, scrolls to the last, finds one by its name.
import assert from "node:assert/strict";
import { Person, browser } from "./person.mjs";

const { ADDRESS, PASSWORD, COUNT } = process.env;
const DRAWN_AT_MOST = 400;

const chrome = await browser();
const root = await Person.at(chrome, ADDRESS);
const { page } = root;

async function took(what, act) {
    const begun = performance.now();
    await act();
    console.log(`${what}: ${(performance.now() - begun).toFixed(0)} ms`);
}

await took("the log-in page", async () => {
    await page.reload();
    await root.sees(page.getByLabel("User name"));
});
const bytes = await page.evaluate(() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")].filter((one) => !one.name.includes("/api2/")).map((one) => one.decodedBodySize));
console.log(`the page is ${bytes.reduce((all, one) => all + one, 0)} bytes in ${bytes.length} files`);

await took("from log-in to the list", async () => {
    await root.logIn("root", PASSWORD);
    await root.sees(root.row("Guests", "vm-1000"));
});
await root.seesText(`Virtual machines ${COUNT}`);
const table = page.getByRole("table", { name: "Guests" });
assert.equal(await table.getAttribute("aria-rowcount"), String(Number(COUNT) + 1));
const drawn = await page.locator("tr, li").count();
console.log(`${drawn} rows are drawn`);
assert.ok(drawn < DRAWN_AT_MOST, `${drawn} rows are drawn`);
await took("to the last row", async () => {
    await table.locator("..").evaluate((element) => element.scrollTo(0, element.scrollHeight));
    await root.sees(root.row("Guests", "vm-10999"));
});
await root.picture("many");
await took("a search", async () => {
    await page.getByLabel("Search guests").fill("even 5432");
    await page.getByRole("list", { name: "Virtual machines" }).getByRole("link", { name: /vm-5432/ }).waitFor();
});
await page.keyboard.press("Enter");
await root.sees(page.getByRole("heading", { name: "vm-5432" }));
await root.leave();
await chrome.close();
