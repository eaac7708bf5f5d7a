/** Get one from `BackgroundFetch.fetch()`, `ensure()`, `get()` or `list()`. Its "progress" events end with the one that settles it. */
export class Registration extends EventTarget {
    /** @param {Kit} kit @param {Row} row @param {RecordRow[]} records @param {(row: Row) => Promise<void>} stop lets go of the browser's own fetch */
    constructor(kit: Kit, row: Row, records: RecordRow[], stop: (row: Row) => Promise<void>);
    /** @type {File[]} */ files: File[];
    /** Bytes a second. */
    rate: number;
    /** Resolves when all is here and checked. @throws (async) AbortError, QuotaExceededError, NetworkError, in words @type {Promise<Registration>} */
    finished: Promise<Registration>;
    get id(): string;
    get uploadTotal(): number;
    get uploaded(): number;
    get downloadTotal(): number;
    get downloaded(): number;
    get result(): import("./types").Result;
    get failureReason(): import("./types").FailureReason;
    /** What exactly went wrong, in words. */
    get failureDetail(): string;
    get state(): import("./types").State;
    /** While it waits: when it goes on, ms since the epoch; 0 = unknown. */
    get until(): number;
    /** Seconds to go at this speed; Infinity while that is not known. */
    get eta(): number;
    get recordsAvailable(): boolean;
    /** Who downloads it. @type {"native" | "worker"} */
    get engine(): "native" | "worker";
    /** Hold it; what has come is kept. A native fetch goes on with the worker engine afterwards.
     * False: it had settled, or sends what could not be sent again. */
    pause(): Promise<boolean>;
    resume(): Promise<boolean>;
    /** False: it had settled. */
    abort(): Promise<boolean>;
    /** The standard's records: `{ request, responseReady }`. */
    matchAll(): Promise<{
        request: Request;
        responseReady: Promise<Response>;
    }[]>;
    /** @param {string} name path in the manifest, or URL */
    match(name: string): Promise<{
        request: Request;
        responseReady: Promise<Response>;
    }>;
    /** 200, with the exact Content-Length. @param {string} name path in the manifest, or URL */
    response(name: string): Promise<Response>;
    /** Made of the stored segments, without a copy where the browser's blobs live on disk. @param {string} name */
    blob(name: string): Promise<Blob>;
    /** @param {string} name */
    file(name: string): Promise<globalThis.File>;
    /** @param {string} name */
    stream(name: string): Promise<ReadableStream<Uint8Array<ArrayBufferLike>>>;
    /** @param {string} name */
    reader(name: string): Promise<ReadableStreamDefaultReader<Uint8Array<ArrayBufferLike>>>;
    /** The whole in memory. @param {string} name @throws RangeError: more than 2 GiB */
    bytes(name: string): Promise<Uint8Array<ArrayBuffer>>;
    /** An address that the worker answers from what is stored, in pages that it controls; its "#stored" tells the worker to look. @param {string} name */
    url(name: string): Promise<string>;
    /** News of it, from whichever tab. @param {import("./types").Progress} message */
    hear(message: import("./types").Progress): Promise<void>;
    /** Who downloads it has changed. @param {Row} row */
    taken(row: Row): void;
    /** A snapshot at each progress, the first at once and the last when it settles; throws as `finished` does. */
    [Symbol.asyncIterator](): AsyncGenerator<{
        downloaded: number;
        downloadTotal: number;
        rate: number;
        eta: number;
        state: import("./types").State;
        until: number;
        result: import("./types").Result;
    }, undefined, unknown>;
    #private;
}
export type Kit = import("./types").Kit;
export type Row = import("./types").RegistrationRow;
export type RecordRow = import("./types").RecordRow;
export type File = {
    path: string;
    url: string;
    size: number;
    downloaded: number;
    verified: string;
};
