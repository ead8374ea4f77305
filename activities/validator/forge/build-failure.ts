/** The user's doing, or a limit their build met: the message is shown to them and the build is not tried again. */
export class BuildFailure extends Error {
  override readonly name = 'BuildFailure';
}
