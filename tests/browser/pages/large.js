// Counts what it is given, and keeps nothing: the memory of the download is what is looked at.
importScripts("/bgfetch/sw.js")
addEventListener("install", () => skipWaiting())
addEventListener("activate", event => event.waitUntil(clients.claim()))
for (const end of ["success", "fail", "abort"])
  addEventListener(`backgroundfetch${end}`, event => event.waitUntil((async () => {
    let size = 0
    const [record] = await event.registration.matchAll()
    if (end === "success") {
      const reader = (await record.responseReady).body.getReader()
      for (let part; !(part = await reader.read()).done;) size += part.value.length
    }
    await fetch("/told", {method: "POST", body: JSON.stringify({ended: end, size})})
  })()))
