// SPDX-License-Identifier: Apache-2.0
// Users, tokens, groups, roles, pools, rights. What the logged-in user may not change is refused by the server, which says why.
import { href } from "../state";
import { Tabs } from "../ui/parts";
import { Groups } from "./groups";
import { Pools } from "./pools";
import { Rights } from "./rights";
import { Roles } from "./roles";
import { Self } from "./self";
import { Users } from "./users";

const TABS: [string, string][] = [
    ["users", "Users and tokens"],
    ["groups", "Groups"],
    ["roles", "Roles"],
    ["pools", "Pools"],
    ["rights", "Rights"],
    ["self", "My account"],
];

export function Access(props: { tab: string }) {
    return (
        <>
            <h1>Users and rights</h1>
            <Tabs name="Users and rights" current={props.tab} tabs={TABS.map(([id, title]) => [id, title, href("access", id)])} />
            {props.tab === "users" && <Users />}
            {props.tab === "groups" && <Groups />}
            {props.tab === "roles" && <Roles />}
            {props.tab === "pools" && <Pools />}
            {props.tab === "rights" && <Rights />}
            {props.tab === "self" && <Self />}
        </>
    );
}
