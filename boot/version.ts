// Which arena8 this is: its version, from package.json, the one place it is written; and the digest of what it is built from (tools/digest.mjs),
// the same in every bundle of one tree, by which a record of the audit log names the kernel that made it.
import digest from '../build/digest.json' with { type: 'json' };
import pkg from '../package.json' with { type: 'json' };

export const VERSION: string = pkg.version;
/** SHA-256 in hexadecimal digits. */
export const BUILD_DIGEST: string = digest.kernel;
