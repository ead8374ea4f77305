import type {
  Overview,
  RecentInstance,
  RecentProof,
  RecentRemoval,
  TrustCount,
} from '../../../activities/validator/console/overview-store.ts';
import { html, linkTo, type Html } from './html.ts';
import { page } from './page.ts';
import type { Service } from './services.ts';

export interface Landing {
  url: string;
  temporalUiUrl: string | null;
  proof: string;
  /** `/metrics` answers only those who come from inside */
  isInside: boolean;
  parts: Record<string, boolean>;
  services: Service[];
  /** null when the database cannot be asked */
  overview: Overview | null;
  now: Date;
}

/** What runs, how it is, what happened lately. */
export function renderLanding({
  url,
  temporalUiUrl,
  proof,
  isInside,
  parts,
  services,
  overview,
  now,
}: Landing): string {
  return page({
    title: 'Network',
    nav: [
      ...(temporalUiUrl ? [{ name: 'Temporal', href: linkTo(temporalUiUrl) }] : []),
      { name: 'API', href: '/docs' },
      { name: 'OpenAPI', href: '/openapi.json' },
      ...(isInside ? [{ name: 'Metrics', href: '/metrics' }] : []),
    ],
    body: html`${
        proof === 'simulated'
          ? html`<p class="note">
              GPUs on this network are <em>simulated</em>: proofs are computed on CPUs and prove no device.
            </p>`
          : null
      }${overview ? counts(overview) : html`<p class="note">The database does not answer; counts are unknown.</p>`}
      <h2>What runs</h2>
      ${serviceTable(parts, services, url)}${
        overview
          ? html`<h2>Recent instances</h2>
              ${instanceTable(overview.recent, now)}
              <h2>Proofs of GPUs</h2>
              ${proofTable(overview.proofs, now)}
              <h2>Recent removals</h2>
              ${removalTable(overview.removals, now)}`
          : null
      }`,
  });
}

const counts = (overview: Overview): Html =>
  html`<div class="grid">
    ${card(overview.chutes, 'chutes', `${overview.publicChutes} public`)}${card(overview.images, 'images', `${overview.imagesBuilt} built`)}
    ${card(total(overview.instances), 'instances', `${overview.instancesActive} active`, overview.instances)}
    ${card(total(overview.nodes), 'GPUs', `${overview.nodesVerified} verified`, overview.nodes)}${card(overview.users, 'users', '')}
  </div>`;

const total = (counts: readonly TrustCount[]): number => counts.reduce((sum, { count }) => sum + count, 0);

const card = (count: number, name: string, small: string, trust: readonly TrustCount[] = []): Html =>
  html`<div class="card">
    <b>${count}</b><span>${name}</span>
    <small>${small}</small>${trust.map((each) => html`<small>${trustTag(each.trustLevel)} ${each.count}</small>`)}
  </div>`;

const trustTag = (level: string): Html =>
  html`<span class="tag ${level === 'simulated' ? 'simulated' : level === 'none' ? 'plain' : ''}"
    >${level === 'none' ? 'unproven' : level}</span
  >`;

function serviceTable(parts: Record<string, boolean>, services: readonly Service[], url: string): Html {
  const rows: Service[] = [
    { name: 'validator API', kind: 'this page', url, isUp: true },
    ...Object.entries(parts).map(([name, isUp]) => ({ name, kind: 'store', url: null, isUp })),
    ...services,
  ];
  return html`<div class="scroll">
    <table>
      <thead>
        <tr>
          <th>Name</th>
          <th>Kind</th>
          <th>State</th>
          <th>Address</th>
        </tr>
      </thead>
      <tbody>
        ${rows.map(
          ({ name, kind, url: address, isUp }) =>
            html`<tr>
              <td>${name}</td>
              <td>${kind}</td>
              <td>
                <i class="dot ${isUp === null ? '' : isUp ? 'up' : 'down'}"></i
                >${isUp === null ? 'listed' : isUp ? 'up' : 'down'}
              </td>
              <td>
                ${address === null ? '' : linkTo(address) === '#' ? html`<code>${address}</code>` : html`<a href="${linkTo(address)}">${address}</a>`}
              </td>
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

function instanceTable(instances: readonly RecentInstance[], now: Date): Html {
  if (instances.length === 0) return html`<div class="card empty">No instance is running.</div>`;
  return html`<div class="scroll">
    <table>
      <thead>
        <tr>
          <th>Instance</th>
          <th>Chute</th>
          <th>GPUs</th>
          <th>Trust</th>
          <th>State</th>
          <th>Miner</th>
          <th>Since</th>
        </tr>
      </thead>
      <tbody>
        ${instances.map(
          (each) =>
            html`<tr>
              <td><code>${short(each.instanceId)}</code></td>
              <td>${each.chuteName}</td>
              <td>${each.gpuCount} × ${each.gpuModelName}</td>
              <td>${trustTag(each.trustLevel)}</td>
              <td>${each.active ? 'active' : each.verified ? 'verified' : 'claimed'}</td>
              <td><code>${short(each.minerHotkey)}</code></td>
              <td>${ago(each.createdAt, now)}</td>
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

function proofTable(proofs: readonly RecentProof[], now: Date): Html {
  if (proofs.length === 0) return html`<div class="card empty">No GPU was proven yet.</div>`;
  return html`<div class="scroll">
    <table>
      <thead>
        <tr>
          <th>GPU</th>
          <th>Type</th>
          <th>Trust</th>
          <th>State</th>
          <th>Filled</th>
          <th>Walk</th>
          <th>Samples</th>
          <th>Miner</th>
          <th>Verified</th>
        </tr>
      </thead>
      <tbody>
        ${proofs.map(
          (each) =>
            html`<tr>
              <td>${proofLink(each)}</td>
              <td>${each.gpuType}</td>
              <td>${trustTag(each.trustLevel)}</td>
              <td class="${each.reason ? 'wide' : ''}">${each.status}${each.reason ? `: ${each.reason}` : ''}</td>
              <td>${bytes(each.bytesFilled)} in ${took(each.fillMs)}</td>
              <td>${took(each.walkMs)}</td>
              <td>${each.samplesChecked}</td>
              <td><code>${short(each.minerHotkey)}</code></td>
              <td>${each.verifiedAt ? ago(each.verifiedAt, now) : ''}</td>
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

/** The name of the GPU leads to the file that `graval verify` checks. */
const proofLink = ({ gpuUuid, isRecorded }: RecentProof): Html => {
  const name = html`<code>${short(gpuUuid)}</code>`;
  return isRecorded ? html`<a href="/nodes/${gpuUuid}/proof" title="the recorded proof">${name}</a>` : name;
};

function removalTable(removals: readonly RecentRemoval[], now: Date): Html {
  if (removals.length === 0) return html`<div class="card empty">No instance was removed yet.</div>`;
  return html`<div class="scroll">
    <table>
      <thead>
        <tr>
          <th>Instance</th>
          <th>Code</th>
          <th>Reason</th>
          <th>Trust</th>
          <th>Miner</th>
          <th>When</th>
        </tr>
      </thead>
      <tbody>
        ${removals.map(
          (each) =>
            html`<tr>
              <td><code>${short(each.instanceId)}</code></td>
              <td><code>${each.code ?? 'unknown'}</code></td>
              <td class="wide">${each.reason ?? ''}</td>
              <td>${trustTag(each.trustLevel)}</td>
              <td><code>${short(each.minerHotkey)}</code></td>
              <td>${ago(each.deletedAt, now)}</td>
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

const short = (id: string): string => `${id.slice(0, 8)}…`;

const UNITS = ['bytes', 'KiB', 'MiB', 'GiB'];
function bytes(count: number): string {
  const power = count < 1024 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log2(count) / 10));
  return `${Math.round((count / 1024 ** power) * 10) / 10} ${UNITS[power] ?? ''}`;
}
const took = (ms: number | null): string =>
  ms === null ? 'no time' : ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;

function ago(then: Date, now: Date): string {
  const seconds = Math.max(0, Math.round((now.getTime() - then.getTime()) / 1000));
  if (seconds < 90) return `${seconds} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  return seconds < 129_600 ? `${Math.round(seconds / 3600)} h ago` : `${Math.round(seconds / 86_400)} d ago`;
}
