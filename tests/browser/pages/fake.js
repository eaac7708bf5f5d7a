/** A manager as bgfetch.js gives it, of which a test decides what happens: `state("paused")`, `progress(5e6)`, `settle("success")`. */
class FakeRegistration extends EventTarget {
  constructor(id, total) {
    super();
    Object.assign(this, { id, downloaded: 0, downloadTotal: total, result: "", failureReason: "", failureDetail: "", state: "queued", until: 0, rate: 0, eta: 0, files: [] });
  }
  set(values) {
    Object.assign(this, values);
    this.dispatchEvent(new Event("progress"));
  }
  async pause() { this.set({ state: "paused" }); }
  async resume() { this.set({ state: "running" }); }
  async abort() { this.set({ state: "settled", result: "failure", failureReason: "aborted" }); return true; }
}

export class FakeManager {
  engine = "worker";
  calls = [];
  constructor({ total = 22_928_619, availability = "downloadable", registration, refuses } = {}) {
    Object.assign(this, { total, available: availability, registration, refuses });
  }
  static registration(values, total = 22_928_619) {
    return Object.assign(new FakeRegistration("fake", total), values);
  }
  async availability() { return this.available; }
  async get() { return this.registration; }
  async size() { return this.total; }
  async delete(id) { this.calls.push(["delete", id]); this.registration = undefined; this.available = "downloadable"; }
  ensure(id, requests, options) { return this.begin("ensure", id, requests, options); }
  fetch(id, requests, options) { return this.begin("fetch", id, requests, options); }
  async begin(call, id, requests, options) {
    this.calls.push([call, id, requests, options]);
    if (this.refuses) throw this.refuses;
    return (this.registration = new FakeRegistration(id, this.total));
  }
}
