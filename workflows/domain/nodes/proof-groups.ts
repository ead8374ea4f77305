/** GPUs of one type behind one agent are asked, and timed, together: a slow type's limit is never a fast one's excuse. */
export const MAX_GROUP = 16;

/** In the order the nodes come; at most `MAX_GROUP` each. */
export function groupsOf<Node extends { host: string; port: number; gpuType: string; minerHotkey?: string }>(
  nodes: readonly Node[],
): Node[][] {
  const groups = new Map<string, Node[][]>();
  for (const node of nodes) {
    const key = [node.host.toLowerCase(), node.port, node.gpuType, node.minerHotkey ?? ''].join(' ');
    const own = groups.get(key) ?? [];
    const last = own.at(-1);
    if (last && last.length < MAX_GROUP) last.push(node);
    else own.push([node]);
    groups.set(key, own);
  }
  return [...groups.values()].flat();
}
