/** Text that is already HTML; everything else is escaped when it enters a template. */
export class Html {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

type Part = string | number | Html | readonly Part[] | null;

const ESCAPES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
const escape = (text: string): string => text.replace(/[&<>"']/g, (char) => ESCAPES[char] ?? char);

const render = (part: Part): string => {
  if (part === null) return '';
  if (part instanceof Html) return part.text;
  return typeof part === 'string' || typeof part === 'number' ? escape(String(part)) : part.map(render).join('');
};

/** A template whose values are escaped, attributes included (quote them). */
export const html = (strings: TemplateStringsArray, ...parts: Part[]): Html =>
  new Html(strings.map((text, index) => text + render(parts[index] ?? null)).join(''));

/** The address if it is one a link may lead to; `#` otherwise (`javascript:` and the like). */
export const linkTo = (url: string): string => (/^(https?:\/\/|\/(?!\/))/.test(url) ? url : '#');
