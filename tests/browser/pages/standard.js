// The article's worker in plain standard code; the first line is all that is added.
importScripts("/bgfetch/sw.js")

addEventListener("install", () => skipWaiting())
addEventListener("activate", event => event.waitUntil(clients.claim()))

const tell = facts => fetch("/told", {method: "POST", body: JSON.stringify(facts)}).catch(() => {})

addEventListener("backgroundfetchsuccess", event => event.waitUntil((async () => {
  const cache = await caches.open("downloads")
  const records = await event.registration.matchAll()
  await Promise.all(records.map(async record => cache.put(record.request, await record.responseReady)))
  await event.updateUI({title: "The model is here"})
  for (const client of await clients.matchAll()) client.postMessage({message: "download-complete", id: event.registration.id})
  await tell({ended: "success"})
})()))

for (const end of ["fail", "abort"])
  addEventListener(`backgroundfetch${end}`, event => event.waitUntil(
    tell({ended: end, reason: event.registration.failureReason})))
