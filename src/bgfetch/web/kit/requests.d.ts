/** @param {Kit} kit @param {Requests} requests @param {Options} options @returns {Promise<Draft[]>} @throws TypeError, NetworkError */
export function drafts(kit: Kit, requests: Requests, { headers, integrity, signal }: Options): Promise<Draft[]>;
export function total(found: Draft[]): number;
export type Kit = import("./types").Kit & Pick<import("./types").Reply, "entries" | "retryAfter">;
export type Draft = import("./types").RecordDraft;
export type Entry = import("./types").Entry;
export type Requests = string | URL | Request | (string | URL | Request)[];
export type Options = {
    title?: string;
    icons?: object[];
    downloadTotal?: number;
    signal?: AbortSignal;
    headers?: HeadersInit;
    integrity?: string;
};
