/** Workers: of one job with their blocks, or of the whole cluster with their jobs. */
import type { JSX } from 'preact';
import type { JobRow, NodeRow } from '../../shared/wire/dashboard.js';
import { bytesOfText, bytesText, countText, msText, UNKNOWN } from '../figures.js';
import { jobAddress } from '../route.js';
import { type ServiceAct, ServiceButton } from './service_button.js';
import { StateBadge } from './state_badge.js';

/** A main loop that is later than this delays what a worker says. */
const LATE_MS = 100;

export interface WorkersTableProps {
  readonly nodes: readonly NodeRow[];
  /** By id; undefined in the table of one job. */
  readonly jobs?: ReadonlyMap<string, JobRow>;
  /** Workers that were lost and have not come back. */
  readonly lost?: readonly string[];
  readonly live?: boolean;
  /** Undefined where there is nothing to be done, or not by who looks. */
  readonly serve?: ((act: ServiceAct) => Promise<string>) | undefined;
  readonly label: string;
}

export function WorkersTable(props: WorkersTableProps): JSX.Element {
  const { nodes, jobs, lost = [], live = false, serve, label } = props;
  const stepClass = stepClassOf(jobs);
  return (
    <div class="scroll">
      <table aria-label={label}>
        <thead>
          <tr>
            <th scope="col">Worker</th>
            <th scope="col">State</th>
            {jobs !== undefined && <th scope="col">Job</th>}
            <th scope="col" class={`number ${stepClass}`}>
              Step
            </th>
            <th scope="col" class="number middling">
              Block
            </th>
            <th scope="col" class="number middling">
              Microbatch
            </th>
            <th scope="col" class="number">
              Cores <span class="below">memory</span>
            </th>
            <th scope="col" class="number wide">
              Loop delay
            </th>
            <th scope="col" class="wide">
              Device
            </th>
            <th scope="col" class="wide">
              Host <span class="below">memory</span>
            </th>
            {serve !== undefined && <th scope="col">Service</th>}
          </tr>
        </thead>
        <tbody>
          {nodes.map((node) => (
            <NodeLine key={node.worker} node={node} jobs={jobs} live={live} serve={serve} />
          ))}
          {lost.map((worker) => (
            <tr key={worker} class="gone">
              <th scope="row">{worker}</th>
              <td>
                <StateBadge state="lost" />
              </td>
              <td class="number">{UNKNOWN}</td>
              <td class="middling" colSpan={2} />
              <td />
              <td class="wide" colSpan={3} />
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** Where each has its job there is no room for the step on the narrowest pages. */
function stepClassOf(jobs: WorkersTableProps['jobs']): string {
  return jobs === undefined ? '' : 'middling';
}

interface NodeLineProps {
  readonly node: NodeRow;
  readonly jobs: ReadonlyMap<string, JobRow> | undefined;
  readonly serve: WorkersTableProps['serve'];
  readonly live: boolean;
}

function NodeLine({ node, jobs, live, serve }: NodeLineProps): JSX.Element {
  const takesPart = node.state === 'training' && node.length > 0;
  return (
    <tr>
      <th scope="row">{node.worker}</th>
      <td>
        <StateBadge state={node.state} />
        {node.slow && <StateBadge state="slow" />}
        {node.note !== '' && <span class="reason">{node.note}</span>}
      </td>
      {jobs !== undefined && (
        <td>{node.job === '' ? UNKNOWN : <a href={jobAddress(node.job)}>{jobs.get(node.job)?.name ?? node.job}</a>}</td>
      )}
      <td class={`number ${stepClassOf(jobs)}`}>{node.job === '' ? UNKNOWN : countText(node.committed)}</td>
      <td class="number middling" title="microbatches of every step, counted from 0">
        {takesPart ? `${node.lo}–${node.lo + node.length - 1}` : UNKNOWN}
      </td>
      <td class="number middling">{node.microbatchMs === 0 ? UNKNOWN : msText(node.microbatchMs)}</td>
      <td class="number" title="cores that its engine keeps busy, of those of the machine, and its resident memory">
        {node.engineCores === null ? UNKNOWN : `${node.engineCores.toFixed(1)} of ${node.cpus}`}
        <span class="below">{bytesText(node.engineBytes)}</span>
      </td>
      <td class={`number wide ${node.loopDelayMs > LATE_MS ? 'late' : ''}`}>{msText(node.loopDelayMs)}</td>
      <td class="wide">
        {node.device === '' ? UNKNOWN : `${node.device}, torch ${node.torch}`}
        {node.deviceBytes !== null && (
          <span class="below" title="memory of its GPU in use">
            {bytesOfText(node.deviceUsedBytes, node.deviceBytes)}
          </span>
        )}
      </td>
      <td class="wide">
        {node.host} <span class="muted">{node.pid}</span>
        <span class="below" title="memory of the machine in use">
          {bytesOfText(node.hostUsedBytes, node.hostBytes)}
        </span>
      </td>
      {serve !== undefined && (
        <td>
          <ServiceButton node={node} enabled={live} serve={serve} />
        </td>
      )}
    </tr>
  );
}
