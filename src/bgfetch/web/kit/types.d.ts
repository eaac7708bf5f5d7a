/** What the parts of the kit say to each other. Nothing here exists at run time; pages need none of it. */

export type Result = "" | "success" | "failure";
export type FailureReason = "" | "aborted" | "bad-status" | "fetch-error" | "quota-exceeded" | "download-total-exceeded";
export type State = "queued" | "running" | "waiting-network" | "waiting-retry" | "paused" | "verifying" | "settled";

/** What the manifest says of one file; `segments` are SHA-256 in hex, of `segment_size` bytes each, the last one shorter. */
export interface Entry {
  path: string;
  url: string;
  size: number;
  sha256: string;
  type?: string;
  segment_size: number;
  segments: string[];
}

/** A request that outlives its page. */
export interface StoredRequest {
  url: string;
  method: string;
  headers: [string, string][];
  mode: RequestMode;
  credentials: RequestCredentials;
  redirect: RequestRedirect;
  referrer: string;
  referrerPolicy: ReferrerPolicy;
  integrity: string;
  /** Bytes of the body; read before `fetch()` resolves. */
  body: ArrayBuffer | null;
}

/** The head of a response, as CORS lets it be seen. */
export interface Head {
  status: number;
  statusText: string;
  headers: [string, string][];
  url: string;
  type: ResponseType;
  redirected: boolean;
}

/** A row of `records`, key [uid, index]. */
export interface RecordRow {
  uid: number;
  index: number;
  request: StoredRequest;
  /** Name in the manifest, or the URL. */
  path: string;
  /** URL of the manifest, "" = none known (then one is looked for in the Link header of the first answer). */
  manifest: string;
  /** The manifest's digests; null = none known. */
  entry: Entry | null;
  head: Head | null;
  /** Key of the bytes: the file's sha256, or "u-" and a hash; "" = not begun. */
  content: string;
  /** Bytes; -1 = not known yet. */
  size: number;
  segmentSize: number;
  /** A strong ETag or a Last-Modified that may be used in If-Range; "" = none. */
  validator: string;
  /** How the bytes were checked; "" until the record is whole. */
  verified: "" | "digest" | "validators" | "length";
  /** How often it began anew because the file had changed. */
  restarts: number;
  result: "" | "success" | Exclude<FailureReason, "">;
  /** What went wrong, in words. */
  detail: string;
}

/** A row of `registrations`, key uid (they count up: the order in which they began). */
export interface RegistrationRow {
  uid: number;
  /** Scope of the service worker registration. */
  scope: string;
  id: string;
  /** `scope\nid` while it is active, absent afterwards: a unique index, so of two with one id the first wins in all tabs. */
  active?: string;
  /** Whether the contents stay, as a stored model, until they are deleted. */
  kept: boolean;
  title: string;
  icons: object[];
  uploadTotal: number;
  uploaded: number;
  downloadTotal: number;
  downloaded: number;
  result: Result;
  failureReason: FailureReason;
  failureDetail: string;
  /** Id of the browser's own fetch that brings it; "" or absent: the worker engine does. */
  native?: string;
  /** Wanted by a page: the engine holds it as long as this is true. */
  paused: boolean;
  state: State;
  /** While waiting: when it goes on, ms since the epoch; 0 = unknown. */
  until: number;
  created: number;
}

export interface Outgoing {
  uid: number;
  scope: string;
  type: "backgroundfetchsuccess" | "backgroundfetchfail" | "backgroundfetchabort";
  attempts: number;
}

/** On BroadcastChannel "bgfetch". */
export type Message =
  | (Progress & { type: "progress" })
  /** Look at the database: a registration was added, aborted, paused, resumed or deleted. */
  | { type: "changed"; uid: number }
  /** The head or the result of a record is in the database. */
  | { type: "record"; uid: number; index: number }
  /** The settle event has ended and the records are gone. */
  | { type: "gone"; uid: number }
  | { type: "network"; online: boolean };

export interface Progress {
  uid: number;
  scope: string;
  id: string;
  uploadTotal: number;
  uploaded: number;
  downloadTotal: number;
  downloaded: number;
  result: Result;
  failureReason: FailureReason;
  failureDetail: string;
  state: State;
  until: number;
  /** Bytes a second, just now. */
  rate: number;
  /** Bytes there of each record, and its size (-1 = not known), in order; absent in a message that settles. */
  files?: [downloaded: number, size: number][];
}

/** What a page gives for a new record; the rest is filled in. */
export type RecordDraft = { request: StoredRequest } & Partial<Pick<RecordRow, "path" | "manifest" | "entry">>;
export type RegistrationDraft = { scope: string; id: string } &
  Partial<Pick<RegistrationRow, "kept" | "title" | "icons" | "downloadTotal" | "paused" | "native">>;

/** An answer that is read; `read` gives undefined at its end. */
export interface Body {
  response: Response;
  /** @throws Retry: it was cut off, or nothing came for 30 s */
  read(): Promise<Uint8Array | undefined>;
  /** Hang up; again and again if you like. */
  close(): void;
}

/** What a transfer asks of the run of its registration (engine.js). */
export interface Runner {
  row: RegistrationRow;
  signal: AbortSignal;
  received: number;
  readonly downloaded: number;
  check(): void;
  enter(state: State): void;
  moved(count: number): void;
  saved(): Promise<unknown>;
  grown(bytes: number): Promise<void>;
  sent(count: number): Promise<void>;
  sized(): Promise<void>;
  wait(state: State, time: number, halt: AbortSignal): Promise<void>;
}

export interface Transfer {
  it: RecordRow;
  run: Runner;
  stored: number;
  readonly downloaded: number;
  halt: AbortController;
  resumable: boolean;
  ranges: boolean;
  met: boolean;
  forbidden: number;
  readonly patient: boolean;
  recall(all: Map<string, Set<number>>): Promise<void>;
  go(): Promise<void>;
  save(change: Partial<RecordRow>): Promise<void>;
}

type Reason = Exclude<FailureReason, "">;

/** What reply.js, source.js and transfer.js add in the engine. */
export interface Reply {
  Failure: new (reason: Reason, words: string) => Error & { reason: Reason };
  Retry: new (words: string, how?: { after?: number; limit?: number; status?: number; network?: boolean }) => Error & { after: number; limit: number; status: number; network: boolean };
  Changed: new (words: string, how?: { after?: number; status?: number }) => Error & { after: number; status: number };
  BadStatus: new (words: string, body: Body) => Error & { body: Body };
  promised(integrity: string): { algorithm: string; digests: string[] };
  validator(headers: Headers): string;
  contentRange(value: string | null): { start: number; end: number; total: number } | undefined;
  retryAfter(headers: Headers): number;
  length(headers: Headers): number;
  wantsPage(request: StoredRequest): boolean;
  isPage(bytes: Uint8Array): boolean;
  entries(manifest: unknown): Entry[];
  manifestOf(headers: Headers, url: string): string;
  segmentSize(size: number): number;
  open(transfer: Transfer, asked: { start?: number; end?: number; last?: boolean }): Promise<Body>;
  shown(url: string): string;
  ours(url: string): string;
  page(url: string): Error;
  Transfer: new (run: Runner, record: RecordRow) => Transfer;
}

/** `globalThis[Symbol.for("bgfetch")]`: what database.js, segments.js and polyfill.js hang there. */
export interface Kit {
  // database.js
  /** Add an active registration and its records, in one transaction. @throws TypeError (async): the id is active. */
  add(draft: RegistrationDraft, records: RecordDraft[]): Promise<RegistrationRow>;
  row(uid: number): Promise<RegistrationRow | undefined>;
  /** The active one of an id; else, where `settled`, the newest one of that id that is still stored. */
  find(scope: string, id: string, settled?: boolean): Promise<RegistrationRow | undefined>;
  /** All of a scope (or of the origin), oldest first. */
  rows(scope?: string): Promise<RegistrationRow[]>;
  /** Of a registration, in order; without a uid, of all. */
  records(uid?: number): Promise<RecordRow[]>;
  record(uid: number, index: number): Promise<RecordRow | undefined>;
  /** Change some members; undefined when it has gone. */
  update(uid: number, change: Partial<RegistrationRow>): Promise<RegistrationRow | undefined>;
  updateRecord(uid: number, index: number, change: Partial<RecordRow>): Promise<RecordRow | undefined>;
  /** Pause or resume, and tell the engine. False: it is not active, or sends what could not be sent again. */
  pause(uid: number, paused: boolean): Promise<boolean>;
  /** Settle, and owe the worker the event, in one transaction, and tell everybody. False: it had settled before. */
  settle(uid: number, result: Result, reason?: FailureReason, detail?: string): Promise<boolean>;
  /** settle(uid, "failure", "aborted") */
  abort(uid: number): Promise<boolean>;
  /** Forget a registration with its records, and delete each content to which nothing refers any more. */
  drop(uid: number): Promise<void>;
  outbox(scope?: string): Promise<Outgoing[]>;
  /** Count an attempt to deliver; @returns how often it was tried before. */
  attempt(uid: number): Promise<number>;
  /** The event has been handled: the outbox forgets it, and unless it is kept, all else of it goes. */
  acknowledge(uid: number): Promise<void>;
  store(request: Request): Promise<StoredRequest>;
  restore(request: StoredRequest, init?: RequestInit): Request;
  tell(message: Message): void;
  /** Hear what all tabs and workers of the origin say, itself included. @returns how to stop. */
  listen(listener: (message: Message) => void): () => void;

  // segments.js
  /** Which segments of a content are there. */
  held(content: string): Promise<Set<number>>;
  /** The same of all contents; the browser has to go through all of its keys for one, too. */
  all(): Promise<Map<string, Set<number>>>;
  /** Put a segment that has been checked. @throws QuotaExceededError */
  put(content: string, index: number, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /** Where the stored parts of a content's segments begin, within each. */
  parts(content: string): Promise<Map<number, number[]>>;
  /** Keep bytes of a segment that is not whole; nobody has checked them. @throws QuotaExceededError */
  putPart(content: string, index: number, start: number, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /** Put the parts into a segment's bytes. @returns how many there are from its beginning, without a gap. */
  recallParts(content: string, index: number, starts: number[], bytes: Uint8Array<ArrayBuffer>): Promise<number>;
  dropParts(content: string, index: number, starts: number[]): Promise<void>;
  /** A segment as a Response (blob() costs no copy in Chromium), undefined when it is not there. */
  segment(content: string, index: number): Promise<Response | undefined>;
  /** Bytes start to end of a content, segment by segment. @param missing gives a segment that is not there; without it the stream errors. */
  stream(record: RecordRow, start?: number, end?: number, missing?: (index: number) => Promise<Response | undefined>): ReadableStream<Uint8Array>;
  /** 200 with the exact Content-Length, or, where `range` is a Range header's value, 206 or 416. */
  response(record: RecordRow, range?: string | null, missing?: (index: number) => Promise<Response | undefined>): Response;
  /** The whole as a Blob of the segments' blobs. @throws NotFoundError: segments are missing. */
  blob(record: RecordRow): Promise<Blob>;
  /** Numbers of the segments of a whole record that are not there (evicted). */
  missing(record: RecordRow, all?: Map<string, Set<number>>): Promise<number[]>;
  /** Fetch a segment that has gone, check it, and put it back; undefined: there is no digest, or the server has other bytes. */
  mend(record: RecordRow, index: number): Promise<Response | undefined>;
  /** Delete each content to which no record refers. */
  sweep(): Promise<void>;
  /** As a server would answer for a file of its manifest. */
  headOf(entry: Entry, url: string): Head;
  sha256(bytes: BufferSource): Promise<string>;
  /** Bytes that may still be stored, as far as the browser says; 1 TiB when it does not. Never waits for a prompt. */
  room(): Promise<number>;

  // polyfill.js
  /** URL of the kit's folder. */
  base: string;
  /** The address of a script of the kit, in the form that a page with Trusted Types wants. */
  script(url: string): unknown;
  /** In a page: start this tab's engine, when there is none. */
  start(): void;
  /** In a page: have the workers deliver what is in the outbox. */
  deliver(): Promise<void>;
  /** The object of a registration in this realm, the same each time. */
  registration(row: RegistrationRow): EventTarget;

  // salvage.js
  /** Hash what a native fetch has left for later, and go on without it. */
  quarantined(uid: number): Promise<void>;
}
