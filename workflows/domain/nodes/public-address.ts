/** IPv4 ranges nobody on the internet answers from, as [first, prefix length] (IANA special-purpose registry, multicast, reserved). */
const SPECIAL_V4: readonly [string, number][] = [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
];

function v4Number(text: string): number | null {
  const parts = text.split('.');
  if (parts.length !== 4 || !parts.every((part) => /^(0|[1-9][0-9]{0,2})$/.test(part) && Number(part) <= 255))
    return null;
  return parts.reduce((number, part) => number * 256 + Number(part), 0);
}

/** The eight groups of an IPv6 address in any spelling, or null. */
function v6Groups(text: string): number[] | null {
  const lastColon = text.lastIndexOf(':');
  const embedded = text.includes('.') ? v4Number(text.slice(lastColon + 1)) : null;
  if (text.includes('.') && embedded === null) return null;
  const plain =
    embedded === null
      ? text
      : `${text.slice(0, lastColon + 1)}${(embedded >>> 16).toString(16)}:${(embedded & 0xffff).toString(16)}`;
  const halves = plain.split('::');
  if (halves.length > 2) return null;
  const [head = [], tail = []] = halves.map((half) => (half === '' ? [] : half.split(':')));
  const missing = 8 - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return null;
  const groups = [...head, ...Array.from({ length: missing }, () => '0'), ...tail];
  return groups.every((group) => /^[0-9a-f]{1,4}$/i.test(group))
    ? groups.map((group) => Number.parseInt(group, 16))
    : null;
}

/** True for an address that may be a machine of somebody on the internet: not loopback, private, link-local, multicast… */
export function isPublicAddress(address: string): boolean {
  const v4 = v4Number(address);
  if (v4 !== null)
    return !SPECIAL_V4.some(
      ([first, bits]) => Math.floor(v4 / 2 ** (32 - bits)) === Math.floor((v4Number(first) ?? 0) / 2 ** (32 - bits)),
    );
  const groups = v6Groups(address);
  if (!groups) return false;
  const [a = 0, b = 0] = groups;
  // only global unicast 2000::/3, without Teredo, benchmarking and documentation (2001::/23, 2001:db8::/32), 6to4, 3fff::/20
  return (
    a >= 0x2000 &&
    a <= 0x3fff &&
    !(a === 0x2001 && (b < 0x200 || b === 0xdb8)) &&
    a !== 0x2002 &&
    !(a === 0x3fff && b < 0x1000)
  );
}
