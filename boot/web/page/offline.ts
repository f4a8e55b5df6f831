// The page without a network: asks the browser to keep this build of it (boot/web/offline/sw.ts). To be called when the machine is at its prompt:
// what is kept is the whole build, and until then the network has better things to do.

/** Whether the page is kept from now on, or one line why it is not: it works all the same. */
export async function keepOffline(): Promise<string | null> {
  if (!('serviceWorker' in navigator)) return 'This browser keeps no pages: without a network this one is not there.';
  try {
    await navigator.serviceWorker.register('sw.js', { updateViaCache: 'none' });
    return null;
  } catch (error) {
    return `The browser does not keep this page for when there is no network: ${(error as Error).message}`;
  }
}
