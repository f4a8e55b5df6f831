// Who may do what: the discretionary access control of Unix. A process carries credentials, an inode an owner, a group and twelve mode bits;
// every refusal follows from those two. Effective ids decide about files, real ids are what access asks about. User 0 passes every check but
// the execution of a file that nobody may execute. After POSIX.1 "file access permissions" and Linux's fs/namei.c.

import { KIND } from '../kernel/abi/index.ts';
import type { Inode } from './inode.ts';

export interface Credentials {
  readonly uid: number; // real: who started the process
  readonly euid: number; // effective: whose rights it has; differs in a set-user-ID program
  readonly suid: number; // saved: what setuid may return to
  readonly gid: number;
  readonly egid: number;
  readonly sgid: number;
  readonly groups: readonly number[]; // supplementary
}

/** User and group with the same real, effective and saved id. */
export function credentialsOf(uid: number, gid: number, groups: readonly number[] = []): Credentials {
  return { uid, euid: uid, suid: uid, gid, egid: gid, sgid: gid, groups };
}

/** The superuser, and the kernel when it opens files for itself. */
export const ROOT: Credentials = credentialsOf(0, 0);

/** Rights as bits of one octal digit of a mode. */
export const MAY = { read: 4, write: 2, exec: 1 } as const;

/** Mode bits above the three digits of rights. */
export const MODE = { setUser: 0o4000, setGroup: 0o2000, sticky: 0o1000, groupExec: 0o010, anyExec: 0o111 } as const;

export function inGroup(who: Credentials, gid: number): boolean {
  return who.egid === gid || who.groups.includes(gid);
}

/** True when `who` has all the rights in `mask` (MAY) to `inode`: its owner's digit, else its group's, else the others'. */
export function permits(inode: Inode, who: Credentials, mask: number): boolean {
  const { mode } = inode;
  if (who.euid === 0) return (mask & MAY.exec) === 0 || inode.kind === KIND.dir || (mode & MODE.anyExec) !== 0;
  const shift = who.euid === inode.uid ? 6 : inGroup(who, inode.gid) ? 3 : 0;
  return ((mode >> shift) & mask) === mask;
}

/** True when `who` may change what only an owner may: mode and times. */
export function owns(inode: Inode, who: Credentials): boolean {
  return who.euid === 0 || who.euid === inode.uid;
}

/** True when the sticky bit of `dir` keeps `who` from removing or renaming `victim` in it. */
export function heldBySticky(dir: Inode, victim: Inode, who: Credentials): boolean {
  return (dir.mode & MODE.sticky) !== 0 && !owns(victim, who) && who.euid !== dir.uid;
}

/** True when `inode` lies in wait for `who`: in a sticky directory that all may write, and neither theirs nor the directory's owner's. */
export function strangerIn(dir: Inode, inode: Inode, who: Credentials): boolean {
  const shared = MODE.sticky | MAY.write;
  return (dir.mode & shared) === shared && inode.uid !== who.euid && inode.uid !== dir.uid;
}

/** True for the mode of a set-group-ID program; without the execute bit, set-group-ID means nothing of the kind. */
export function runsAsGroup(mode: number): boolean {
  return (mode & MODE.setGroup) !== 0 && (mode & MODE.groupExec) !== 0;
}

/** True where `who` may give a file of the group `gid` the set-group-ID bit, and leaves it there. */
export function keepsGroupBit(who: Credentials, gid: number): boolean {
  return who.euid === 0 || inGroup(who, gid);
}

/** The mode of a file once `who` has given it away or, without privilege, written to it: it runs as its owner no more. */
export function withoutSetIds({ mode, gid }: Inode, who: Credentials): number {
  const group = runsAsGroup(mode) || !keepsGroupBit(who, gid) ? MODE.setGroup : 0;
  return mode & ~(MODE.setUser | group);
}

/** `who` has changed the contents of `inode`. */
export function clearSetIds(inode: Inode, who: Credentials): void {
  const mode = withoutSetIds(inode, who);
  if (who.euid !== 0 && mode !== inode.mode) inode.setAttributes({ mode });
}
