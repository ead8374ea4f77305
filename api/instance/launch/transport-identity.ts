import {
  createHash,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  randomBytes,
  sign,
  type KeyObject,
} from 'node:crypto';

/** What one instance is known by: an X25519 key for the secret, a self-signed certificate for TLS. Never on disk. */
export interface TransportIdentity {
  /** 64 hex */
  transportPublicKey: string;
  /** PEM */
  certificate: string;
  privateKey: string;
  /** X25519 with the validator's public key (64 hex), 32 bytes */
  sharedSecretWith: (publicKeyHex: string) => Uint8Array;
}

export function createTransportIdentity(commonName: string): TransportIdentity {
  const exchange = generateKeyPairSync('x25519');
  const tls = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return {
    transportPublicKey: Buffer.from(exchange.publicKey.export({ format: 'jwk' }).x ?? '', 'base64url').toString('hex'),
    certificate: selfSign(commonName, tls),
    privateKey: tls.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    sharedSecretWith: (publicKeyHex) => {
      if (!/^[0-9a-f]{64}$/.test(publicKeyHex)) throw new Error("the validator's public key is not 64 hex");
      const x = Buffer.from(publicKeyHex, 'hex').toString('base64url');
      const publicKey = createPublicKey({ format: 'jwk', key: { kty: 'OKP', crv: 'X25519', x } });
      return diffieHellman({ privateKey: exchange.privateKey, publicKey });
    },
  };
}

/** SHA-256 of a PEM certificate's DER, 64 hex: what the validator pins. */
export const certificateFingerprint = (pem: string): string =>
  createHash('sha256')
    .update(Buffer.from(pem.replace(/-----[A-Z ]+-----|\s/g, ''), 'base64'))
    .digest('hex');

// X.509 by hand: it is one fixed shape, and the libraries for it weigh more than the rest of the runtime.
const DAY_MS = 86_400_000;
const OID = { ecdsaWithSha256: '06082a8648ce3d040302', commonName: '0603550403', subjectAltName: '0603551d11' };

function selfSign(
  commonName: string,
  { publicKey, privateKey }: { publicKey: KeyObject; privateKey: KeyObject },
): string {
  const algorithm = der(0x30, hex(OID.ecdsaWithSha256));
  const name = der(0x30, der(0x31, der(0x30, hex(OID.commonName), der(0x0c, Buffer.from(commonName)))));
  const validity = der(0x30, time(Date.now() - DAY_MS), time(Date.now() + 3650 * DAY_MS));
  const altNames = der(0x30, der(0x82, Buffer.from(commonName)));
  const extensions = der(0xa3, der(0x30, der(0x30, hex(OID.subjectAltName), der(0x04, altNames))));
  const serial = randomBytes(16);
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40; // positive, and no leading zero
  const body = der(
    0x30,
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, serial),
    algorithm,
    name,
    validity,
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    extensions,
  );
  const signature = der(0x03, Buffer.from([0]), sign('sha256', body, privateKey));
  const base64 = der(0x30, body, algorithm, signature).toString('base64');
  return `-----BEGIN CERTIFICATE-----\n${base64.match(/.{1,64}/g)?.join('\n') ?? ''}\n-----END CERTIFICATE-----\n`;
}

function der(tag: number, ...parts: Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  const size = content.length;
  const length = size < 0x80 ? [size] : size < 0x100 ? [0x81, size] : [0x82, size >> 8, size & 0xff];
  return Buffer.concat([Buffer.from([tag, ...length]), content]);
}
const hex = (text: string): Buffer => Buffer.from(text, 'hex');
/** GeneralizedTime may not be used before 2050, UTCTime has two digits of the year. */
function time(ms: number): Buffer {
  const digits = `${new Date(ms).toISOString().replace(/\..*/, '').replace(/[-:T]/g, '')}Z`;
  return Number(digits.slice(0, 4)) < 2050 ? der(0x17, Buffer.from(digits.slice(2))) : der(0x18, Buffer.from(digits));
}
