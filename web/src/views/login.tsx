// SPDX-License-Identifier: Apache-2.0
import { useEffect, useState } from "preact/hooks";
import { type AnswerOf, api, ApiError } from "../api/client";
import { farewell, type LoginAnswer, logIn, reason, secondFactor } from "../state";
import { Button, Choice, TextField } from "../ui/parts";

type Realm = AnswerOf<"GET", "/access/domains">[number];

const WRONG_CODE = "This is not the code of now: each holds for half a minute. Has the device that shows it the right time?";

function useRealms(): [Realm[], string, (realm: string) => void] {
    const [realms, setRealms] = useState<Realm[]>([]);
    const [realm, setRealm] = useState("wirt");
    useEffect(() => {
        api.get("/access/domains")
            .then((list) => {
                setRealms(list);
                setRealm(list.find((one) => one.default === 1)?.realm ?? list[0]?.realm ?? "wirt");
            })
            .catch(() => setRealms([])); // The log-in itself will say what is wrong.
    }, []);
    return [realms, realm, setRealm];
}

export function Login() {
    const [realms, realm, setRealm] = useRealms();
    const [name, setName] = useState("");
    const [password, setPassword] = useState("");
    const [code, setCode] = useState("");
    const [challenge, setChallenge] = useState<LoginAnswer>();
    const [error, setError] = useState<string>();
    const [busy, setBusy] = useState(false);

    const submit = async (event: Event) => {
        event.preventDefault();
        setBusy(true);
        setError(undefined);
        try {
            if (challenge !== undefined) await secondFactor(challenge, code);
            else {
                const answer = await logIn(name.includes("@") ? name : `${name}@${realm}`, password);
                if (answer.NeedTFA === 1) setChallenge(answer);
            }
        } catch (refused) {
            setError(challenge !== undefined && refused instanceof ApiError && refused.status === 401 ? WRONG_CODE : reason(refused));
        } finally {
            setBusy(false);
        }
    };

    const begin = () => {
        setChallenge(undefined);
        setError(undefined);
        setPassword("");
        setCode("");
    };

    return (
        <main class="login">
            <form onSubmit={submit} aria-label="Log in">
                <h1>
                    <img src="/icon.svg" alt="" width="32" height="32" /> wirt
                </h1>
                {farewell.value !== undefined && <p class="note" role="status">{farewell.value}</p>}
                {challenge === undefined ? (
                    <>
                        <TextField label="User name" value={name} onInput={setName} autocomplete="username" required autofocus />
                        <TextField label="Password" type="password" value={password} onInput={setPassword} autocomplete="current-password" required />
                        {realms.length > 1 && (
                            <Choice label="Realm" value={realm} onInput={setRealm} options={realms.map((one) => [one.realm, one.comment])} />
                        )}
                    </>
                ) : (
                    <TextField label="Code of your second factor" value={code} onInput={setCode} autocomplete="one-time-code" pattern="[0-9]{6}" required autofocus />
                )}
                {error !== undefined && (
                    <p class="error" role="alert">
                        {error}
                    </p>
                )}
                <Button type="submit" kind="main" disabled={busy}>
                    Log in
                </Button>
                {challenge !== undefined && (
                    <Button kind="quiet" onClick={begin}>
                        Log in as somebody else
                    </Button>
                )}
            </form>
        </main>
    );
}
