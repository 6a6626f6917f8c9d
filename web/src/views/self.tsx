// SPDX-License-Identifier: Apache-2.0
// The logged-in user's own account: password and second factor.
import { useMemo, useState } from "preact/hooks";
import { encode } from "uqr";
import { api } from "../api/client";
import { run, user } from "../state";
import { useLoad } from "../ui/load";
import { Button, Dialog, Table, TextField } from "../ui/parts";

const BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const SECRET_LENGTH = 32; // 160 bits, as RFC 4226 recommends

function newSecret(): string {
    const random = crypto.getRandomValues(new Uint8Array(SECRET_LENGTH));
    return Array.from(random, (byte) => BASE32[byte % 32]).join("");
}

/** Dark on light in both colour schemes, with the margin that cameras want: as inverted ones few read it. */
function QrCode(props: { of: string }) {
    const { data, size } = useMemo(() => encode(props.of, { ecc: "M", border: 4 }), [props.of]);
    const path = data.flatMap((row, y) => row.map((dark, x) => (dark ? `M${x} ${y}h1v1h-1z` : ""))).join("");
    return (
        <svg class="qr" role="img" aria-label="QR code of the secret" viewBox={`0 0 ${size} ${size}`} shape-rendering="crispEdges">
            <path d={`M0 0h${size}v${size}h-${size}z`} fill="#fff" />
            <path d={path} fill="#000" />
        </svg>
    );
}

function AddFactor(props: { done: () => void }) {
    const secret = useMemo(newSecret, []);
    const [code, setCode] = useState("");
    const name = user.value ?? "";
    const uri = `otpauth://totp/wirt:${encodeURIComponent(name)}?secret=${secret}&issuer=wirt&period=30&algorithm=SHA1&digits=6`;
    const add = () => api.post("/access/tfa/{userid}", { userid: name, type: "totp", totp: uri, value: code, description: "authenticator" });
    return (
        <Dialog title="Add a second factor" submit="Add" done={props.done} onSubmit={add}>
            {(errors) => (
                <>
                    <p>Let your authenticator look at this, then type the code that it shows.</p>
                    <QrCode of={uri} />
                    <p class="note">Where it cannot look, this secret is typed into it:</p>
                    <p>
                        <code class="secret">{secret.replace(/(.{4})/g, "$1 ").trim()}</code>
                    </p>
                    <p>
                        <a href={uri}>Open in an authenticator on this machine</a>
                    </p>
                    <TextField label="Code" value={code} onInput={setCode} error={errors.value} pattern="[0-9]{6}" autocomplete="one-time-code" required autofocus />
                </>
            )}
        </Dialog>
    );
}

function ChangePassword() {
    const [old, setOld] = useState("");
    const [password, setPassword] = useState("");
    const save = (event: Event) => {
        event.preventDefault();
        void run("Change the password", () => api.put("/access/password", { userid: user.value ?? "", password, "confirmation-password": old })).then((well) => {
            if (!well) return;
            setOld("");
            setPassword("");
        });
    };
    return (
        <form class="panel" onSubmit={save} aria-label="Password">
            <h2>Password</h2>
            <input type="text" hidden autocomplete="username" value={user.value} readOnly />
            <TextField label="Present password" type="password" value={old} onInput={setOld} autocomplete="current-password" required />
            <TextField label="New password" type="password" value={password} onInput={setPassword} autocomplete="new-password" required />
            <div class="footer">
                <Button type="submit">Change</Button>
            </div>
        </form>
    );
}

export function Self() {
    const userid = user.value ?? "";
    const factors = useLoad("/access/tfa/{userid}", { userid });
    const [adding, setAdding] = useState(false);
    return (
        <>
            <ChangePassword />
            <h2>Second factor</h2>
            <Table
                name="Second factors"
                rows={factors.data}
                id={(one) => one.id}
                empty="None. With one, a stolen password alone opens nothing."
                columns={[
                    { title: "Kind", cell: (one) => one.type },
                    { title: "Notes", cell: (one) => one.description ?? "" },
                    {
                        title: "",
                        cell: (one) => (
                            <Button kind="quiet" label={`Remove ${one.description ?? one.type}`} onClick={() => void run("Remove the second factor", () => api.delete("/access/tfa/{userid}/{id}", { userid, id: one.id })).then(factors.again)}>
                                Remove
                            </Button>
                        ),
                    },
                ]}
            />
            <Button onClick={() => setAdding(true)}>Add a second factor</Button>
            {adding && (
                <AddFactor
                    done={() => {
                        setAdding(false);
                        factors.again();
                    }}
                />
            )}
        </>
    );
}
