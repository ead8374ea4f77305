import { Router } from 'express';
import { describedRoutes, openapiDocument, type RouteDescription } from '../../http/openapi.ts';
import { html, type Html } from '../console/html.ts';
import { page } from '../console/page.ts';
import type { ValidatorDeps } from '../deps.ts';

const AUTH_WORDS: Record<RouteDescription['auth'], string> = {
  none: 'anyone',
  user: 'API key or hotkey',
  'user?': 'anyone, or API key or hotkey',
  registered: 'registered hotkey',
  hotkey: 'hotkey',
  launch: 'launch token',
};

/** `/openapi.json`, generated from the schemas the routes parse with, and `/docs`, the same to read. */
export function openapiRoutes({ config }: Pick<ValidatorDeps, 'config'>): Router {
  const router = Router();
  router.get('/openapi.json', (_req, res) => {
    res.json(openapiDocument({ title: 'Canopy validator API', version: '1', url: config.CANOPY_PUBLIC_URL }));
  });
  router.get('/docs', (_req, res) => void res.type('html').send(renderDocs(describedRoutes())));
  return router;
}

function renderDocs(routes: readonly RouteDescription[]): string {
  const groups = new Map<string, RouteDescription[]>();
  for (const route of routes) {
    const group = route.path.split('/')[1] || 'root';
    groups.set(group, [...(groups.get(group) ?? []), route]);
  }
  const row = (route: RouteDescription): Html =>
    html`<tr>
      <td><code class="verb">${route.method.toUpperCase()}</code></td>
      <td><code>${route.path}</code></td>
      <td>${route.summary}</td>
      <td>${AUTH_WORDS[route.auth]}${route.purpose ? html`, signs <code>${route.purpose}</code>` : ''}</td>
    </tr>`;
  const sections = [...groups]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(
      ([group, members]) =>
        html`<section>
          <h2>${group}</h2>
          <div class="scroll">
            <table>
              <thead>
                <tr>
                  <th>Method</th>
                  <th>Path</th>
                  <th>What it does</th>
                  <th>Who may call</th>
                </tr>
              </thead>
              <tbody>
                ${members.map(row)}
              </tbody>
            </table>
          </div>
        </section>`,
    );
  return page({
    title: 'API',
    body: html`<p class="lead">
        ${String(routes.length)} routes. The machine-readable form with every field is
        <a href="/openapi.json">/openapi.json</a>. API keys go into <code>Authorization: Bearer cpk_…</code>; hotkeys
        sign <code>hotkey:nonce:X</code>, X being the SHA-256 of the raw body or the word shown.
      </p>
      ${sections}`,
  });
}
