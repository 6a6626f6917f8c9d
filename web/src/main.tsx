// SPDX-License-Identifier: Apache-2.0
import "./style.css";
import { render } from "preact";
import { Page } from "./views/page";
import { resume } from "./state";

await resume();
render(<Page />, document.getElementById("page")!);
