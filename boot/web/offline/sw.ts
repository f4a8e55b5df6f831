// The service worker: the page without a network. One build is kept whole or not at all: at its installation every file is fetched and held
// against the SHA-256 that the build wrote into this script, so a half-copied site, or one that changes meanwhile, installs nothing and the
// build there was goes on. A page is served by the build that it began with: all but its first file have that build's name in their path.

export {};

declare const self: ServiceWorkerGlobalScope;

/** Name of the build, and every file of it with its SHA-256: tools/web.mjs puts them in. '' is the page itself. */
declare const BUILD: string;
declare const FILES: readonly (readonly [path: string, sha256: string])[];

const PREFIX = `arena8 ${self.registration.scope} `;
const CACHE = PREFIX + BUILD;
const urlOf = (path: string): string => new URL(path, self.registration.scope).href;

const hex = (bytes: ArrayBuffer): string =>
  [...new Uint8Array(bytes)].map(byte => byte.toString(16).padStart(2, '0')).join('');

/** A file of the build, fetched past caches that may be stale: those named by the build cannot be. Throws where it is another. */
async function fetched(path: string, sha256: string): Promise<Response> {
  const response = await fetch(urlOf(path), { cache: path.startsWith(`${BUILD}/`) ? 'default' : 'no-cache' });
  if (!response.ok) throw new Error(`${path}: status ${response.status}`);
  const bytes = await response.clone().arrayBuffer();
  if (hex(await crypto.subtle.digest('SHA-256', bytes)) !== sha256) throw new Error(`${path}: not of build ${BUILD}`);
  return response;
}

async function install(): Promise<void> {
  const cache = await caches.open(CACHE);
  try {
    await Promise.all(
      FILES.map(async ([path, sha256]) => {
        const kept = await cache.match(urlOf(path)); // from an installation that was cut off: it was whole then
        if (kept === undefined) await cache.put(urlOf(path), await fetched(path, sha256));
      }),
    );
  } catch (error) {
    await caches.delete(CACHE);
    throw error;
  }
  await self.skipWaiting(); // pages that are open go on with their own build's files
}

/** Other builds go, but for the one before: pages that are open may still ask for files of it. */
async function activate(): Promise<void> {
  const others = (await caches.keys()).filter(name => name.startsWith(PREFIX) && name !== CACHE);
  await Promise.all(others.slice(0, -1).map(name => caches.delete(name)));
  await self.clients.claim();
}

/** The page from this build, its files from the build that they are of; everything else from the network. */
async function answer(request: Request): Promise<Response> {
  const own = await caches.open(CACHE);
  const found = request.mode === 'navigate' ? await own.match(urlOf('')) : await caches.match(request);
  return found ?? fetch(request);
}

self.addEventListener('install', event => event.waitUntil(install()));
self.addEventListener('activate', event => event.waitUntil(activate()));
self.addEventListener('fetch', event => {
  const { request } = event;
  const { origin, pathname } = new URL(request.url);
  const scope = new URL(self.registration.scope);
  const isPage =
    request.mode !== 'navigate' || pathname === scope.pathname || pathname === `${scope.pathname}index.html`;
  if (request.method === 'GET' && origin === scope.origin && pathname.startsWith(scope.pathname) && isPage)
    event.respondWith(answer(request));
});
