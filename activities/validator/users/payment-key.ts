import { Keyring } from '@polkadot/keyring';
import { cryptoWaitReady, mnemonicGenerate } from '@polkadot/util-crypto';

/** A fresh deposit address and the 24 words that spend from it (spec/validator-api.md §2.1 note 1). */
export async function createPaymentKey(): Promise<{ address: string; mnemonic: string }> {
  await cryptoWaitReady();
  const mnemonic = mnemonicGenerate(24);
  return { address: new Keyring({ type: 'sr25519', ss58Format: 42 }).addFromMnemonic(mnemonic).address, mnemonic };
}

/** What binds the sealed words to their row. */
export const paymentSecretContext = (userId: string): string => `users/${userId}/payment`;
