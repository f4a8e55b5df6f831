// Files in and out. Whatever of the machine's tree can be read can be saved; what is dropped on the page, chosen or fetched lies in /home.
// Nothing goes anywhere else than from this computer's disk into this browser and back.

import type { FileEntry, Storage } from '../protocol/messages.ts';
import type { Client } from './client.ts';
import { openDialog } from './dialogs.ts';
import { button, byId, el, sizeText } from './dom.ts';
import { notice } from './notices.ts';

/** The last part of a path. */
const nameOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1);

/** Puts files into /home, one after the other, and says where each is. */
export async function putFiles(client: Client, files: readonly File[]): Promise<void> {
  for (const file of files) {
    try {
      const path = await client.ask('put', file.name, file);
      notice('note', `${path} is there: ${sizeText(file.size)}.`);
    } catch (error) {
      notice('trouble', `${file.name}: ${(error as Error).message}`);
    }
  }
}

const carriesFiles = (event: DragEvent): boolean => event.dataTransfer?.types.includes('Files') === true;

/** Files may be dropped anywhere on the page. */
export function takeDrops(client: Client): void {
  const veil = el('div', { class: 'drop', hidden: true }, el('p', {}, 'Drop to put it into /home'));
  document.body.append(veil);
  addEventListener('dragover', event => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    veil.hidden = false;
  });
  addEventListener('dragleave', event => {
    if (event.relatedTarget === null) veil.hidden = true;
  });
  addEventListener('drop', event => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    veil.hidden = true;
    void putFiles(client, [...event.dataTransfer!.files]);
  });
}

/** Saves a file of the machine where the browser saves downloads. */
async function save(client: Client, path: string): Promise<void> {
  try {
    const bytes = await client.ask('read', path);
    // Of no other type: a browser would give the name an ending that fits.
    const url = URL.createObjectURL(new Blob([bytes as Uint8Array<ArrayBuffer>], { type: 'application/octet-stream' }));
    el('a', { href: url, download: nameOf(path) }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  } catch (error) {
    notice('trouble', `${path}: ${(error as Error).message}`);
  }
}

/** How full the home is, and whether it lasts. */
export function storageText({ isKept, why, usedBytes, quotaBytes }: Storage): string {
  if (!isKept) return `/home is gone with the machine${why === '' ? '' : `: ${why}`}.`;
  return `/home is kept in this browser: ${sizeText(usedBytes)} of ${sizeText(quotaBytes)} used.`;
}

export function filesDialog(client: Client): void {
  openDialog('Files', ({ body }) => {
    const browser = new FileList(client);
    const usage = el('div', { class: 'usage' });
    const refresh = (): void => {
      void browser.show();
      void showUsage(client, usage);
    };
    const chooser = el('input', {
      type: 'file',
      multiple: true,
      class: 'visually-hidden',
      tabindex: -1,
      'aria-hidden': 'true',
    });
    chooser.addEventListener('change', () => {
      void putFiles(client, [...(chooser.files ?? [])]).then(refresh);
      chooser.value = '';
    });
    body.append(
      usage,
      el(
        'div',
        { class: 'row' },
        button('Add files…', () => chooser.click(), { class: 'primary' }),
        el('span', { class: 'muted' }, 'or drop them anywhere on the page'),
        chooser,
      ),
      fetchForm(client, refresh),
      browser.element,
    );
    refresh();
  });
}

async function showUsage(client: Client, usage: HTMLElement): Promise<void> {
  const storage = await client.ask('storage').catch(() => null);
  if (storage === null) return;
  const { isKept, usedBytes, quotaBytes } = storage;
  const part = quotaBytes > 0 ? usedBytes / quotaBytes : 0;
  usage.replaceChildren(el('p', {}, storageText(storage)));
  if (isKept) usage.append(el('meter', { value: part, max: 1, high: 0.9, 'aria-label': 'Storage used' }));
}

function fetchForm(client: Client, refresh: () => void): HTMLElement {
  const url = el('input', { type: 'url', required: true, placeholder: 'https://…', 'aria-label': 'Address of a file' });
  const form = el(
    'form',
    { class: 'row' },
    url,
    el('button', { type: 'submit' }, 'Fetch'),
    el(
      'small',
      { class: 'muted wide' },
      'From a server that allows it. One that knows ranges sends only what is read: in /mnt/web.',
    ),
  );
  form.addEventListener('submit', event => {
    event.preventDefault();
    client.ask('fetch', url.value).then(
      path => {
        notice('note', `The file is ${path}.`);
        url.value = '';
        refresh();
      },
      (error: Error) => notice('trouble', error.message),
    );
  });
  return form;
}

/** One directory of the machine: go down, go up, save. */
class FileList {
  readonly element = el('div', { class: 'files' });
  readonly #client: Client;
  #path = '/home';

  constructor(client: Client) {
    this.#client = client;
  }

  async show(): Promise<void> {
    const path = this.#path;
    try {
      const entries = await this.#client.ask('list', path);
      if (path === this.#path) this.#fill(entries);
    } catch (error) {
      this.element.replaceChildren(this.#crumbs(), el('p', {}, (error as Error).message));
    }
  }

  #go(path: string): void {
    this.#path = path;
    void this.show().then(() => this.element.querySelector<HTMLElement>('[aria-current]')?.focus());
  }

  /** `/ home user`: each part goes there. */
  #crumbs(): HTMLElement {
    const parts = this.#path.split('/').filter(Boolean);
    const crumbs = ['/', ...parts].map((name, i) => {
      const path = `/${parts.slice(0, i).join('/')}`;
      return button(name, () => this.#go(path), {
        class: 'quiet mono',
        ...(path === this.#path ? { 'aria-current': 'true' } : {}),
      });
    });
    return el('nav', { class: 'crumbs', 'aria-label': 'Directory' }, ...crumbs);
  }

  #fill(entries: readonly FileEntry[]): void {
    const sorted = [...entries].sort(
      (a, b) => Number(b.isDirectory) - Number(a.isDirectory) || (a.path < b.path ? -1 : 1),
    );
    const rows = sorted.map(entry => this.#row(entry));
    this.element.replaceChildren(
      this.#crumbs(),
      rows.length > 0
        ? el(
            'table',
            { class: 'list' },
            el('caption', { class: 'visually-hidden' }, `Files in ${this.#path}`),
            el(
              'thead',
              {},
              el(
                'tr',
                {},
                el('th', { scope: 'col' }, 'Name'),
                el('th', { scope: 'col', class: 'number' }, 'Size'),
                el('th', { scope: 'col' }, el('span', { class: 'visually-hidden' }, 'Save')),
              ),
            ),
            el('tbody', {}, ...rows),
          )
        : el('p', { class: 'muted' }, 'There is nothing here.'),
    );
  }

  #row({ path, bytes, isDirectory }: FileEntry): HTMLElement {
    const name = nameOf(path);
    return el(
      'tr',
      {},
      el(
        'td',
        { class: 'mono name' },
        isDirectory ? button(`${name}/`, () => this.#go(path), { class: 'link' }) : name,
      ),
      el('td', { class: 'number' }, isDirectory ? '' : sizeText(bytes)),
      el(
        'td',
        { class: 'act' },
        ...(isDirectory
          ? []
          : [button('Save', () => void save(this.#client, path), { class: 'quiet', 'aria-label': `Save ${name}` })]),
      ),
    );
  }
}

/** In the footer: what the home is. */
export function showStorage(storage: Storage): void {
  byId('facts')
    .querySelector('[data-fact=home]')
    ?.replaceChildren(
      'home ',
      el(
        'b',
        {},
        storage.isKept ? `kept, ${sizeText(storage.usedBytes)} of ${sizeText(storage.quotaBytes)}` : 'not kept',
      ),
    );
}
