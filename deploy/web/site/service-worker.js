// Answers from the network, and from what site-files.mjs stored where there is none. It stores nothing itself.

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  if (event.request.method === "GET") event.respondWith(fetch(event.request).catch(() => stored(event.request)));
});

async function stored(request) {
  const name = request.mode === "navigate" ? new URL("index.html", self.registration.scope) : request;
  return (await caches.match(name)) ?? Response.error();
}
