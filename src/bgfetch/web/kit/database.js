/**
 * Registrations, their records and the events that are owed, in IndexedDB; and the channel on which all contexts of the
 * origin hear of changes. What is true is what is in the database: messages are hints to look there.
 *
 * Loads as a module, by import() and by importScripts() alike: so it exports nothing and hangs itself on one symbol.
 */
"use strict";
if (!(/** @type {any} */ (globalThis)[Symbol.for("bgfetch")]?.add)) {
  /** @typedef {import("./types").RegistrationRow} RegistrationRow */
  /** @typedef {import("./types").RecordRow} RecordRow */
  /** @typedef {import("./types").Message} Message */
  /** @type {import("./types").Kit} */
  const kit = /** @type {any} */ (globalThis)[Symbol.for("bgfetch")] ??= {};

  const STORES = ["registrations", "records", "outbox"];
  /** @type {Promise<IDBDatabase> | undefined} */
  let opened;

  const open = () => opened ??= new Promise((done, failed) => {
    const asked = indexedDB.open("bgfetch", 1);
    asked.onupgradeneeded = () => {
      const rows = asked.result.createObjectStore("registrations", { keyPath: "uid", autoIncrement: true });
      rows.createIndex("active", "active", { unique: true });
      asked.result.createObjectStore("records", { keyPath: ["uid", "index"] });
      asked.result.createObjectStore("outbox", { keyPath: "uid" });
    };
    asked.onsuccess = () => {
      // Another tab with a newer kit, or a person who clears the site's data, must not wait for this one.
      asked.result.onversionchange = () => asked.result.close();
      asked.result.onclose = asked.result.onversionchange = () => { asked.result.close(); opened = undefined; };
      done(asked.result);
    };
    asked.onerror = () => { opened = undefined; failed(asked.error); };
  });

  /** @template T @param {IDBRequest<T>} request @returns {Promise<T>} */
  const of = (request) => new Promise((done, failed) => {
    request.onsuccess = () => done(request.result);
    request.onerror = () => failed(request.error);
  });

  /** @typedef {{ registrations: IDBObjectStore, records: IDBObjectStore, outbox: IDBObjectStore }} Stores */
  /** @type {Promise<unknown>} */
  let turn = Promise.resolve();

  /**
   * What `work` gives, once the transaction is durable; all of it happens or nothing does. One at a time: where a worker
   * ends with two under way, as with its tab, WebKit never lets go of them, and no tab can use the database any more
   * (https://bugs.webkit.org/show_bug.cgi?id=324094).
   * @template T @param {IDBTransactionMode} mode @param {(stores: Stores) => Promise<T>} work must not call `within` @returns {Promise<T>}
   */
  function within(mode, work) {
    const done = turn.then(() => transact(mode, work));
    turn = done.catch(() => {});
    return done;
  }

  /** @template T @param {IDBTransactionMode} mode @param {(stores: Stores) => Promise<T>} work @returns {Promise<T>} */
  async function transact(mode, work) {
    const database = await open();
    const transaction = database.transaction(STORES, mode);
    const ended = new Promise((done, failed) => {
      transaction.oncomplete = done;
      transaction.onabort = () => failed(transaction.error);
    });
    ended.catch(() => {}); // it is looked at below, or `work` says more
    const stores = /** @type {Stores} */ (Object.fromEntries(STORES.map((name) => [name, transaction.objectStore(name)])));
    let value;
    try {
      value = await work(stores);
    } catch (error) {
      try { transaction.abort(); } catch { /* it has ended by itself */ }
      throw error;
    }
    await ended;
    return value;
  }

  /** @param {number} uid */
  const all = (uid) => IDBKeyRange.bound([uid], [uid, []]);

  /** Change a row; `change` gives undefined to leave it. @template T
   * @param {IDBObjectStore} store @param {IDBValidKey} key @param {(row: T) => T | undefined} change @returns {Promise<T | undefined>} */
  async function edit(store, key, change) {
    const row = await of(store.get(key));
    const changed = row && change(row);
    if (changed) await of(store.put(changed));
    return changed;
  }

  /** @type {BroadcastChannel | undefined} */
  let channel;
  try { channel = new BroadcastChannel("bgfetch"); } catch { /* Firefox, where a person has blocked site data: nothing is stored, either */ }
  /** @type {Set<(message: Message) => void>} */
  const listeners = new Set();
  /** @param {Message} message */
  const hear = (message) => { for (const each of [...listeners]) each(message); };
  if (channel) channel.onmessage = ({ data }) => hear(data);

  /** @param {RegistrationRow} row @returns {import("./types").Progress & {type: "progress"}} */
  const progress = ({ uid, scope, id, uploadTotal, uploaded, downloadTotal, downloaded, result, failureReason, failureDetail, state, until }) =>
    ({ type: "progress", uid, scope, id, uploadTotal, uploaded, downloadTotal, downloaded, result, failureReason, failureDetail, state, until, rate: 0 });

  Object.assign(kit, /** @type {Partial<import("./types").Kit>} */ ({
    async add(draft, drafts) {
      /** @type {Omit<RegistrationRow, "uid">} */
      const row = {
        kept: false, title: "", icons: [], downloadTotal: 0, paused: false, ...draft,
        active: `${draft.scope}\n${draft.id}`, uploadTotal: 0, uploaded: 0, downloaded: 0, result: "", failureReason: "",
        failureDetail: "", state: draft.paused ? "paused" : "queued", until: 0, created: Date.now(),
      };
      for (const { request } of drafts) row.uploadTotal += request.body?.byteLength ?? 0;
      const added = await within("readwrite", async ({ registrations, records }) => {
        const uid = Number(await of(registrations.add(row)));
        await Promise.all(drafts.map((each, index) => of(records.add(/** @type {RecordRow} */ ({
          path: each.request.url, manifest: "", entry: null, ...each, uid, index, head: null, content: "", size: -1,
          segmentSize: 0, validator: "", verified: "", restarts: 0, result: "", detail: "",
        })))));
        return { ...row, uid };
      }).catch((error) => {
        if (error?.name !== "ConstraintError") throw error;
        throw new TypeError(`There already is an active background fetch with the id "${draft.id}".`);
      });
      kit.tell({ type: "changed", uid: added.uid });
      return added;
    },

    row: (uid) => within("readonly", ({ registrations }) => of(registrations.get(uid))),

    async find(scope, id, settled = false) {
      const active = await within("readonly", ({ registrations }) => of(registrations.index("active").get(`${scope}\n${id}`)));
      if (active || !settled) return active;
      const rows = (await kit.rows(scope)).filter((row) => row.id === id);
      return rows.findLast(({ kept, result }) => kept && result === "success") ?? rows.at(-1); // a failed update takes nothing away
    },

    async rows(scope) {
      const rows = await within("readonly", ({ registrations }) => of(registrations.getAll()));
      return rows.filter((/** @type {RegistrationRow} */ row) => scope === undefined || row.scope === scope);
    },

    records: (uid) => within("readonly", ({ records }) => of(records.getAll(uid === undefined ? undefined : all(uid)))),

    record: (uid, index) => within("readonly", ({ records }) => of(records.get([uid, index]))),

    update: (uid, change) => within("readwrite", ({ registrations }) =>
      edit(registrations, uid, (/** @type {RegistrationRow} */ row) => ({ ...row, ...change }))),

    async updateRecord(uid, index, change) {
      const row = await within("readwrite", ({ records }) =>
        edit(records, [uid, index], (/** @type {RecordRow} */ record) => ({ ...record, ...change })));
      if ("head" in change || "result" in change) kit.tell({ type: "record", uid, index });
      return row;
    },

    async pause(uid, paused) {
      /** @type {import("./types").State} */
      const state = paused ? "paused" : "queued";
      const row = await within("readwrite", async ({ registrations, records }) => {
        const sends = (await of(records.getAll(all(uid)))).some((/** @type {RecordRow} */ { request, result }) => request.method !== "GET" && !result);
        if (paused && sends) return undefined; // it could not be sent again
        return edit(registrations, uid, (/** @type {RegistrationRow} */ it) => it.result ? undefined : { ...it, paused, state, until: 0 });
      });
      if (row) {
        kit.tell(progress(row));
        kit.tell({ type: "changed", uid });
      }
      return !!row;
    },

    async settle(uid, result, reason = "", detail = "") {
      let replaced = false;
      const row = await within("readwrite", async ({ registrations, records, outbox }) => {
        const row = await edit(registrations, uid, (/** @type {RegistrationRow} */ it) => {
          if (it.result) return undefined;
          const { active, ...rest } = it; // the id is free from here on, before the event
          return { ...rest, result, failureReason: reason, failureDetail: detail, paused: false, state: /** @type {const} */ ("settled"), until: 0 };
        });
        if (!row) return undefined;
        const type = result === "success" ? "backgroundfetchsuccess" : reason === "aborted" ? "backgroundfetchabort" : "backgroundfetchfail";
        await of(outbox.put({ uid, scope: row.scope, type, attempts: 0 }));
        if (row.kept && result === "success") replaced = await replace(row, registrations, records, outbox);
        return row;
      });
      if (replaced) await kit.sweep();
      if (row) kit.tell(progress(row));
      return !!row;
    },

    abort: (uid) => kit.settle(uid, "failure", "aborted"),

    async drop(uid) {
      await within("readwrite", (stores) => remove(uid, stores));
      kit.tell({ type: "gone", uid });
      kit.tell({ type: "changed", uid });
      await kit.sweep();
    },

    async outbox(scope) {
      const owed = await within("readonly", ({ outbox }) => of(outbox.getAll()));
      return owed.filter((/** @type {import("./types").Outgoing} */ each) => scope === undefined || each.scope === scope);
    },

    async attempt(uid) {
      const owed = await within("readwrite", ({ outbox }) =>
        edit(outbox, uid, (/** @type {import("./types").Outgoing} */ it) => ({ ...it, attempts: it.attempts + 1 })));
      return owed ? owed.attempts - 1 : 0;
    },

    async acknowledge(uid) {
      const row = await kit.row(uid);
      if (!row?.kept) return kit.drop(uid);
      await within("readwrite", ({ outbox }) => of(outbox.delete(uid)));
    },

    async store(request) {
      const { url, method, mode, credentials, redirect, referrer, referrerPolicy, integrity } = request;
      // An engine's own address would be the referrer otherwise.
      const from = referrer === "about:client" ? location.href.replace(/#.*/, "") : referrer;
      const body = /^(GET|HEAD)$/.test(method) ? null : await request.clone().arrayBuffer();
      return { url, method, headers: [...request.headers], mode, credentials, redirect, referrer: from, referrerPolicy, integrity, body: body?.byteLength ? body : null };
    },

    restore: ({ url, body, ...rest }, init) => new Request(url, { ...rest, ...(body && { body }), ...init }),

    tell(message) {
      channel?.postMessage(message);
      hear(message);
    },

    listen(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  }));

  /** @param {number} uid @param {Stores} stores */
  async function remove(uid, { registrations, records, outbox }) {
    await Promise.all([of(registrations.delete(uid)), of(records.delete(all(uid))), of(outbox.delete(uid))]);
  }

  /** A new version of a stored model takes the place of those of the same id; whether there were any.
   * @param {RegistrationRow} row @param {IDBObjectStore} registrations @param {IDBObjectStore} records @param {IDBObjectStore} outbox */
  async function replace(row, registrations, records, outbox) {
    const former = (await of(registrations.getAll())).filter((/** @type {RegistrationRow} */ old) =>
      old.uid !== row.uid && old.scope === row.scope && old.id === row.id && old.kept && old.result);
    for (const old of former) await remove(old.uid, { registrations, records, outbox });
    return former.length > 0;
  }
}
