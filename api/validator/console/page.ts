import { html, type Html } from './html.ts';

const STYLE = html`<style>
  :root {
    color-scheme: light dark;
    --bg: #f6f7f5;
    --card: #fff;
    --ink: #17201a;
    --soft: #5d6a61;
    --line: #e2e6e1;
    --leaf: #15803d;
    --warn: #b45309;
    --bad: #b91c1c;
    --tint: #ecf5ee;
  }
  @media (prefers-color-scheme: dark) {
    :root {
      --bg: #0e1310;
      --card: #151c18;
      --ink: #e6ede8;
      --soft: #93a298;
      --line: #253029;
      --leaf: #4ade80;
      --warn: #fbbf24;
      --bad: #f87171;
      --tint: #16241b;
    }
  }
  * {
    box-sizing: border-box;
  }
  body {
    margin: 0;
    background: var(--bg);
    color: var(--ink);
    font:
      15px/1.55 ui-sans-serif,
      system-ui,
      -apple-system,
      'Segoe UI',
      sans-serif;
  }
  .wrap {
    max-width: 1080px;
    margin: 0 auto;
    padding: 28px 20px 64px;
  }
  header {
    display: flex;
    flex-wrap: wrap;
    align-items: center;
    gap: 8px 18px;
    margin-bottom: 26px;
  }
  .brand {
    display: flex;
    align-items: center;
    gap: 10px;
    font-weight: 650;
    font-size: 20px;
    letter-spacing: -0.01em;
    color: inherit;
    text-decoration: none;
  }
  .brand svg {
    width: 28px;
    height: 28px;
    color: var(--leaf);
  }
  nav {
    margin-left: auto;
    display: flex;
    flex-wrap: wrap;
    gap: 4px;
  }
  nav a {
    padding: 6px 12px;
    border-radius: 8px;
    color: var(--soft);
    text-decoration: none;
  }
  nav a:hover {
    background: var(--tint);
    color: var(--ink);
  }
  a {
    color: var(--leaf);
  }
  h2 {
    font-size: 13px;
    font-weight: 600;
    letter-spacing: 0.04em;
    text-transform: uppercase;
    color: var(--soft);
    margin: 34px 0 10px;
  }
  .lead {
    color: var(--soft);
    max-width: 70ch;
  }
  .grid {
    display: grid;
    gap: 12px;
    grid-template-columns: repeat(auto-fit, minmax(150px, 1fr));
  }
  .card {
    background: var(--card);
    border: 1px solid var(--line);
    border-radius: 12px;
    padding: 16px 18px;
  }
  .card b {
    display: block;
    font-size: 28px;
    font-weight: 600;
    letter-spacing: -0.02em;
    font-variant-numeric: tabular-nums;
  }
  .card span {
    color: var(--soft);
  }
  .card small {
    display: block;
    color: var(--soft);
    margin-top: 2px;
  }
  .scroll {
    overflow-x: auto;
    background: var(--card);
    border: 1px solid var(--line);
    border-radius: 12px;
  }
  table {
    width: 100%;
    border-collapse: collapse;
    font-size: 14px;
  }
  th,
  td {
    padding: 9px 14px;
    text-align: left;
    white-space: nowrap;
    vertical-align: top;
  }
  td.wide {
    white-space: normal;
    min-width: 220px;
  }
  th {
    font-weight: 500;
    color: var(--soft);
    font-size: 13px;
  }
  tbody tr {
    border-top: 1px solid var(--line);
  }
  code {
    font:
      13px ui-monospace,
      SFMono-Regular,
      Menlo,
      monospace;
  }
  .verb {
    color: var(--leaf);
  }
  .empty {
    padding: 16px 18px;
    color: var(--soft);
  }
  .dot {
    display: inline-block;
    width: 8px;
    height: 8px;
    border-radius: 50%;
    margin-right: 8px;
    background: var(--soft);
  }
  .dot.up {
    background: var(--leaf);
  }
  .dot.down {
    background: var(--bad);
  }
  .tag {
    display: inline-block;
    padding: 1px 9px;
    border-radius: 99px;
    font-size: 12.5px;
    background: var(--tint);
    color: var(--leaf);
  }
  .tag.simulated {
    background: transparent;
    border: 1px dashed var(--warn);
    color: var(--warn);
    font-style: italic;
  }
  .tag.plain {
    background: transparent;
    border: 1px solid var(--line);
    color: var(--soft);
  }
  .note {
    border-left: 3px solid var(--warn);
    padding: 8px 14px;
    background: var(--card);
    border-radius: 0 8px 8px 0;
    color: var(--soft);
    margin: 0 0 18px;
  }
</style>`;

const LEAF = html`<svg
  viewBox="0 0 32 32"
  fill="none"
  stroke="currentColor"
  stroke-width="2"
  stroke-linecap="round"
  aria-hidden="true"
>
  <path d="M16 29V14" />
  <path d="M16 20c-7 0-11-4-11-10 4 0 7 1 9 4" />
  <path d="M16 16c0-7 4-12 11-13 1 8-3 13-11 13Z" />
</svg>`;

/** A whole page; nothing is loaded from elsewhere. */
export function page({
  title,
  body,
  nav = [],
}: {
  title: string;
  body: Html;
  nav?: { name: string; href: string }[];
}): string {
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width,initial-scale=1" />
        <title>${title} · Canopy</title>
        ${STYLE}
      </head>
      <body>
        <div class="wrap">
          <header>
            <a class="brand" href="/">${LEAF}Canopy</a>
            <nav>${nav.map(({ name, href }) => html`<a href="${href}">${name}</a>`)}</nav>
          </header>
          ${body}
        </div>
      </body>
    </html>`.text;
}

/** Sent with every page: no scripts, no frames, no outside addresses. */
export const PAGE_HEADERS = {
  'content-security-policy':
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
};
