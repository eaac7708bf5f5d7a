/** The page's service worker: plain standard code, after one line that makes it so in every browser. */

importScripts("/bgfetch/sw.js");

addEventListener("install", () => skipWaiting());
addEventListener("activate", (event) => event.waitUntil(clients.claim()));

addEventListener("backgroundfetchsuccess", (event) => {
  event.waitUntil((async () => {
    const cache = await caches.open("downloads");
    const records = await event.registration.matchAll();
    await Promise.all(records.map(async (record) => cache.put(record.request, await record.responseReady)));
    await event.updateUI({ title: "The model is here" });
    await tell({ message: "download-complete", id: event.registration.id });
  })());
});

addEventListener("backgroundfetchfail", (event) => {
  event.waitUntil((async () => {
    await event.updateUI({ title: "The model could not be downloaded" });
    await tell({ message: "download-failed", id: event.registration.id, reason: event.registration.failureReason });
  })());
});

addEventListener("backgroundfetchabort", (event) => {
  event.waitUntil(tell({ message: "download-aborted", id: event.registration.id }));
});

addEventListener("backgroundfetchclick", (event) => {
  event.waitUntil(clients.openWindow("/article/"));
});

async function tell(message) {
  for (const client of await clients.matchAll({ includeUncontrolled: true })) client.postMessage(message);
}
