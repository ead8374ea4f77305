import { Refusal } from '../../../workflows/domain/errors.ts';
import type { PovwProfile } from '../../../workflows/domain/proof/messages.ts';
import type { ProofPluginName, ProvenGpu } from '../../../workflows/domain/proof/plugin.ts';
import { chooseProfile, type ProfileRow } from '../../../workflows/domain/proof/profile-rows.ts';
import { simulatedProfile } from '../../../workflows/domain/proof/profiles.ts';

/** What each GPU of a proof proves with. Refuses a type that cannot be proven, with what its operator can do. */
export function profilesOf({ rows, allowsUnmeasured }: { rows: readonly ProfileRow[]; allowsUnmeasured: boolean }) {
  return ({ gpuType }: ProvenGpu, plugin: ProofPluginName): PovwProfile => {
    if (plugin !== 'povw') return simulatedProfile();
    const choice = chooseProfile(rows, gpuType, { allowsUnmeasured });
    if (choice.kind === 'unusable') throw new Refusal('request.invalid', choice.detail);
    return choice.profile;
  };
}
