/** The models of this page, once its worker is there; the same object each time. Where the browser gives this page no service
 * worker it downloads all the same, but no event comes, and no URL is answered offline.
 * @param {Ready} [options] @returns {Promise<BackgroundFetch>} @throws NotSupportedError: engine "native" where there is none */
export function ready(options?: Ready): Promise<BackgroundFetch>;
export { Registration };
/** The models of a page's scope. Get one from `ready()`. */
export class BackgroundFetch {
    /** @param {Kit} kit @param {ServiceWorkerRegistration | undefined} service @param {"native" | "worker"} engine */
    constructor(kit: Kit, service: ServiceWorkerRegistration | undefined, engine: "native" | "worker");
    /** Which engine is tried first. @type {"native" | "worker"} */
    engine: "native" | "worker";
    /** Fetch under an id. @param {string} id @param {Requests} requests a manifest, a URL, or several @param {Options} [options]
     * @throws TypeError: the id is active; QuotaExceededError: before the first byte, in words; NetworkError: no manifest; AbortError; NotSupportedError: nothing can be stored */
    fetch(id: string, requests: Requests, options?: Options): Promise<Registration>;
    /** Have it here: what is whole is given at once, what runs is joined, what lacks parts is mended. @param {string} id @param {Requests} requests @param {Options} [options] */
    ensure(id: string, requests: Requests, options?: Options): Promise<Registration>;
    /** The running or stored one of an id. @param {string} id */
    get(id: string): Promise<Registration | undefined>;
    getIds(): Promise<string[]>;
    /** All that run or are stored, oldest first. */
    list(): Promise<Registration[]>;
    /** Abort what runs, and give the room of what is stored back. @param {string} id */
    delete(id: string): Promise<boolean>;
    /** Hash what is stored again; a part that is wrong is deleted, so that `ensure` fetches it anew.
     * @param {string} id @returns {Promise<{ whole: boolean, wrong: number, missing: number }>} numbers of segments */
    verify(id: string): Promise<{
        whole: boolean;
        wrong: number;
        missing: number;
    }>;
    /** What the browser says of the room; an empty object where it says nothing. @returns {Promise<StorageEstimate>} */
    estimate(): Promise<StorageEstimate>;
    /** In the words of the browsers' own models. @param {string} id @returns {Promise<"unavailable"|"downloadable"|"downloading"|"available">} */
    availability(id: string): Promise<"unavailable" | "downloadable" | "downloading" | "available">;
    /** Bytes that a fetch would take, before consent; 0 = unknown. @param {Requests} requests */
    size(requests: Requests): Promise<number>;
    /** For `env.customCache` of transformers.js: by the file's own URL, or the hub's. @param {string} id */
    asCache(id: string): {
        /** @param {string | URL | Request} key @returns {Promise<Response | undefined>} */
        match: (key: string | URL | Request) => Promise<Response | undefined>;
        put(): Promise<void>;
    };
    /** `fetch`, answered from what is stored where that has the URL. @param {RequestInfo | URL} input @param {RequestInit} [init] */
    fetchThrough(input: RequestInfo | URL, init?: RequestInit): Promise<Response>;
    /** Go on with what an earlier page has left. */
    wake(): Promise<void>;
    #private;
}
export type Row = import("./types").RegistrationRow;
export type Kit = import("./requests.js").Kit;
export type Options = import("./requests.js").Options;
export type Requests = import("./requests.js").Requests;
/**
 * stall: ms without a byte after which a native fetch is given up, 60,000 if not said
 */
export type Ready = {
    engine?: "auto" | "native" | "worker";
    serviceWorker?: string;
    scope?: string;
    stall?: number;
};
import { Registration } from "./registration.js";
