// Sharing: a link that carries seed, processor, size, what was typed and small files in its fragment, which no server ever sees. Whoever opens
// it comes to the same bytes; the digest of the state, made here and there, says so.

import { isRefusal } from '../../../kernel/abi/index.ts';
import { formatLink, LINK_LIMITS, parseLink } from '../protocol/link.ts';
import type { FileEntry, PoweredOn, Share } from '../protocol/messages.ts';
import type { Client } from './client.ts';
import { openDialog } from './dialogs.ts';
import { button, el, sizeText } from './dom.ts';
import { notice } from './notices.ts';

/** What the address carries; null: nothing of ours; a sentence where it cannot be used. */
export async function shared(fragment: string): Promise<Share | string | null> {
  const share = await parseLink(fragment);
  return share !== null && isRefusal(share) ? `This ${share.message}.` : share;
}

/** The verdict on a link: the same state, or another, and why that may be. */
export function sayWhatCame(share: Share, on: PoweredOn): void {
  const short = on.digest.slice(0, 12);
  const lines = share.commands.length === 1 ? '1 command' : `${share.commands.length} commands`;
  if (on.digest === '') notice('note', `The replay of ${lines} was cut short: the machine is yours.`);
  else if (share.digest === '')
    notice('note', `Replayed ${lines}: state digest ${short}. The link does not say which one it was made with.`);
  else if (share.digest === on.digest)
    notice(
      'note',
      `Replayed ${lines}: state digest ${short}, the same as where the link was made. Its /home is gone with it; what this browser keeps is untouched.`,
    );
  else {
    const builds =
      share.build === on.build ? 'although the builds are the same' : 'for it was made by another build of arena8';
    notice(
      'trouble',
      `Replayed ${lines}: state digest ${short}, not the link’s ${share.digest.slice(0, 12)}, ${builds}.`,
    );
  }
}

export function shareDialog(client: Client): void {
  openDialog('Share what you see', ({ body }) => {
    const files = el('fieldset', { hidden: true }, el('legend', {}, 'Files that go with it'));
    const result = el('div', { class: 'result', role: 'status' });
    const chosen = (): string[] => [...files.querySelectorAll<HTMLInputElement>('input:checked')].map(box => box.value);
    const make = button('Make the link', () => void makeLink(client, chosen(), make, result), {
      class: 'primary',
      autofocus: true,
    });
    body.append(
      el(
        'p',
        {},
        'The link carries the seed, the processor, the size of the terminal and the commands typed since power-on. Whoever opens it gets the same machine, byte for byte. Nothing is sent anywhere: everything is in the link itself.',
      ),
      files,
      el('div', { class: 'row' }, make),
      result,
    );
    void offerFiles(client, files);
  });
}

/** Files of the home that are small enough to be thought of. */
async function offerFiles(client: Client, fieldset: HTMLElement): Promise<void> {
  const entries = await client.ask('list', '/home').catch((): readonly FileEntry[] => []);
  const small = entries.filter(e => !e.isDirectory && e.bytes <= LINK_LIMITS.characters);
  fieldset.hidden = small.length === 0;
  fieldset.append(
    ...small.map(({ path, bytes }) =>
      el(
        'label',
        { class: 'tick' },
        el('input', { type: 'checkbox', value: path }),
        el('span', { class: 'mono' }, path),
        el('span', { class: 'muted' }, sizeText(bytes)),
      ),
    ),
  );
}

async function makeLink(
  client: Client,
  files: readonly string[],
  make: HTMLButtonElement,
  result: HTMLElement,
): Promise<void> {
  make.disabled = true;
  result.replaceChildren(el('p', { class: 'muted' }, 'Replaying it once, to know what comes of it …'));
  try {
    const share = await client.ask('share', files);
    const fragment = await formatLink(share);
    if (isRefusal(fragment)) throw new Error(fragment.message);
    result.replaceChildren(...linkShown(share, `${location.href.split('#', 1)[0]}#${fragment}`));
  } catch (error) {
    result.replaceChildren(el('p', {}, `There is no link: ${(error as Error).message}`));
  }
  make.disabled = false;
}

function linkShown(share: Share, url: string): HTMLElement[] {
  const link = el('input', { class: 'mono', readonly: true, value: url, 'aria-label': 'The link' });
  const copy = button('Copy the link', () => {
    link.select();
    navigator.clipboard.writeText(url).then(
      () => (copy.textContent = 'Copied'),
      () => (copy.textContent = 'Selected: copy it'),
    );
  });
  const commands = share.commands.length === 1 ? '1 command' : `${share.commands.length} commands`;
  const files = share.files.length === 1 ? '1 file' : `${share.files.length} files`;
  const facts = [
    ['Carries', `${commands}, ${files}, seed ${share.seed}, ${share.columns} × ${share.rows}`],
    ['Length', `${url.length} characters`],
    ['State digest', share.digest],
  ] as const;
  return [
    el('div', { class: 'row' }, link, copy),
    el(
      'dl',
      { class: 'sums' },
      ...facts.flatMap(([name, value]) => [el('dt', {}, name), el('dd', { class: 'figures' }, value)]),
    ),
    el(
      'details',
      {},
      el('summary', {}, 'The commands'),
      el('pre', { class: 'mono', tabindex: 0 }, share.commands.join('\n')),
    ),
  ];
}
