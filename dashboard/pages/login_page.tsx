/** Where a token is given; it goes into a cookie, never into an address. */
import type { JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';

interface LoginPageProps {
  /** A token helps; otherwise only whoever runs the proxy in front can. */
  readonly takesTokens: boolean;
  readonly reason: string;
  /** Resolves with what went wrong, or with an empty text. */
  readonly logIn: (token: string) => Promise<string>;
}

export function LoginPage({ takesTokens, reason, logIn }: LoginPageProps): JSX.Element {
  const [token, setToken] = useState('');
  const [problem, setProblem] = useState('');
  const [asking, setAsking] = useState(false);
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus(), []);
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    setAsking(true);
    setProblem(await logIn(token));
    setAsking(false);
  };
  return (
    <section class="panel login">
      <h1>Log in</h1>
      {takesTokens ? (
        <form onSubmit={(event) => void submit(event)}>
          <label for="token">Your token</label>
          <input
            id="token"
            ref={field}
            type="password"
            autocomplete="current-password"
            required
            value={token}
            onInput={(event) => setToken(event.currentTarget.value)}
          />
          <button type="submit" disabled={asking}>
            Log in
          </button>
          {problem !== '' && (
            <p class="problem" role="alert">
              {problem}
            </p>
          )}
        </form>
      ) : (
        <p role="alert">{reason}</p>
      )}
    </section>
  );
}
