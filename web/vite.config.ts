// SPDX-License-Identifier: Apache-2.0
// Builds the page into dist/, which wirtd serves. `npm run dev` serves it with a proxy to a node
// named by WIRT_NODE (https://localhost:8006), so that a change shows at once.
import preact from "@preact/preset-vite";
import { defineConfig } from "vite";

const node = process.env.WIRT_NODE ?? "https://localhost:8006";

export default defineConfig({
    plugins: [preact()],
    build: { target: "es2022", sourcemap: false, assetsInlineLimit: 0 },
    server: { proxy: { "/api2": { target: node, secure: false, ws: true } } },
});
