/** The whole page: head, what is wrong with the connection, and one of the pages. */
import type { JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Hello, PageAct, Visit } from '../shared/wire/dashboard.js';
import { Connection, type Shown } from './connection.js';
import { NO_MODEL } from './model.js';
import { JobPage } from './pages/job_page.js';
import { JobsPage } from './pages/jobs_page.js';
import { LoginPage } from './pages/login_page.js';
import { NodesPage } from './pages/nodes_page.js';
import { LiveStatus } from './parts/live_status.js';
import { type Route, routeOf } from './route.js';

/** Time to read where the page goes. */
const MOVE_MS = 1_500;

const NOTHING: Shown = {
  model: NO_MODEL,
  liveness: 'connecting',
  lostMs: Date.now(),
  outdated: false,
  visit: undefined,
};

export function App(): JSX.Element {
  const [shown, setShown] = useState<Shown>(NOTHING);
  const route = useRoute();
  const connection = useRef<Connection | undefined>(undefined);
  useEffect(() => {
    connection.current = new Connection(setShown);
  }, []);
  const job = route.kind === 'job' ? route.job : null;
  useEffect(() => connection.current?.watch(job), [job]);
  const { model, liveness, lostMs, outdated, visit } = shown;
  const isLetIn = visit?.visitor !== null;
  const main = useRef<HTMLElement>(null);
  return (
    <>
      <button type="button" class="skip" onClick={() => main.current?.focus()}>
        Skip to the content
      </button>
      <header class="top">
        <a class="brand" href="#/jobs">
          Lockstep
        </a>
        <nav aria-label="Pages">
          <PageLink href="#/jobs" text="Jobs" current={route.kind !== 'nodes'} />
          <PageLink href="#/nodes" text="Workers" current={route.kind === 'nodes'} />
        </nav>
        <span class="who">{whoText(model.hello)}</span>
        <VisitorName visit={visit} logOut={() => void connection.current?.logOut()} />
        {isLetIn && <LiveStatus liveness={liveness} lostMs={lostMs} />}
      </header>
      <main ref={main} tabIndex={-1} class={liveness === 'lost' && isLetIn ? 'stale' : ''}>
        {outdated && (
          <p class="banner" role="alert">
            The coordinator is of another version than this page.{' '}
            <button type="button" onClick={() => location.reload()}>
              Reload
            </button>
          </p>
        )}
        {liveness === 'live' && model.hello !== undefined && !model.hello.leads && <Standby hello={model.hello} />}
        {visit?.visitor === null ? (
          <LoginPage
            takesTokens={visit.takesTokens}
            reason={visit.reason}
            logIn={(token) => connection.current?.logIn(token) ?? Promise.resolve('')}
          />
        ) : (
          <Page route={route} shown={shown} act={(act) => actBy(connection.current, act)} />
        )}
      </main>
    </>
  );
}

function actBy(connection: Connection | undefined, act: PageAct): Promise<string> {
  return connection?.act(act) ?? Promise.resolve('there is no connection');
}

interface VisitorNameProps {
  readonly visit: Visit | undefined;
  readonly logOut: () => void;
}

function VisitorName({ visit, logOut }: VisitorNameProps): JSX.Element | null {
  const visitor = visit?.visitor;
  if (visitor === undefined || visitor === null || visitor.name === '') return null;
  return (
    <span class="visitor">
      {visitor.name}, {visitor.role}
      {visitor.loggedIn && (
        <button type="button" onClick={logOut}>
          Log out
        </button>
      )}
    </span>
  );
}

function whoText(hello: Hello | undefined): string {
  if (hello === undefined) return '';
  return hello.leads ? `${hello.coordinator} leads, term ${hello.term}` : `${hello.coordinator} stands by`;
}

function useRoute(): Route {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const changed = () => setHash(location.hash);
    addEventListener('hashchange', changed);
    return () => removeEventListener('hashchange', changed);
  }, []);
  return routeOf(hash);
}

interface PageLinkProps {
  readonly href: string;
  readonly text: string;
  readonly current: boolean;
}

function PageLink({ href, text, current }: PageLinkProps): JSX.Element {
  return (
    <a href={href} aria-current={current ? 'page' : undefined}>
      {text}
    </a>
  );
}

/** This coordinator has nothing to show; the one that leads has. */
function Standby({ hello }: { readonly hello: Hello }): JSX.Element {
  const { leader, coordinator } = hello;
  const address = leader === null || leader.name === coordinator ? undefined : pageOf(leader.dashboard);
  useEffect(() => {
    if (address === undefined) return undefined;
    const timer = setTimeout(() => location.replace(address), MOVE_MS);
    return () => clearTimeout(timer);
  }, [address]);
  if (address === undefined) {
    return (
      <p class="banner" role="status">
        {leader === null || leader.name === coordinator
          ? 'No coordinator leads at the moment. Training goes on; this page goes on when one is elected.'
          : `${coordinator} stands by, and ${leader.name} leads. It has no dashboard.`}
      </p>
    );
  }
  return (
    <p class="banner" role="status">
      {coordinator} stands by. Going to <a href={address}>the dashboard of {leader?.name}</a>, which leads.
    </p>
  );
}

function pageOf(dashboard: string | null): string | undefined {
  if (dashboard === null || !/^https?:\/\//.test(dashboard)) return undefined;
  return `${dashboard}/${location.hash}`;
}

interface PageProps {
  readonly route: Route;
  readonly shown: Shown;
  readonly act: (act: PageAct) => Promise<string>;
}

function Page({ route, shown: { model, liveness, visit }, act }: PageProps): JSX.Element | null {
  useEffect(() => {
    document.title = titleOf(route, model.jobs.get(route.kind === 'job' ? route.job : '')?.name);
  });
  if (model.cluster === undefined)
    return model.hello?.leads === false ? null : <p class="empty">Waiting for the coordinator.</p>;
  if (route.kind === 'jobs') return <JobsPage jobs={model.jobs} nodes={model.nodes} />;
  const live = liveness === 'live';
  if (route.kind === 'nodes') {
    const serve = visit?.visitor?.role === 'admin' ? act : undefined;
    return <NodesPage jobs={model.jobs} nodes={model.nodes} usage={model.usage} live={live} serve={serve} />;
  }
  const row = model.jobs.get(route.job);
  if (model.missing?.job === route.job) {
    return (
      <section class="panel">
        <h1>{route.job}</h1>
        <p>
          {model.missing.reason} <a href="#/jobs">All jobs</a>
        </p>
      </section>
    );
  }
  if (row === undefined || model.job?.job !== route.job) return <p class="empty">Loading the job.</p>;
  return (
    <JobPage
      row={row}
      job={model.job}
      nodes={model.nodes}
      live={live}
      mayCancel={mayCancel(visit, row.user)}
      cancel={(checkpoint) => act({ kind: 'cancel', job: route.job, checkpoint })}
    />
  );
}

/** As coordinator/web/acts.ts decides. */
function mayCancel(visit: Visit | undefined, owner: string): boolean {
  const visitor = visit?.visitor ?? undefined;
  return visitor?.role === 'admin' || (visitor?.role === 'submitter' && visitor.name === owner);
}

function titleOf(route: Route, name: string | undefined): string {
  if (route.kind === 'jobs') return 'Jobs – Lockstep';
  return route.kind === 'nodes' ? 'Workers – Lockstep' : `${name ?? route.job} – Lockstep`;
}
