/** Whether the browser has an own Background Fetch, which no polyfill has replaced. */
export function present(): boolean;
/** Whether the browser would start now without asking: a refusal is remembered for the whole site, for good.
 * Then the worker of this scope must have salvage.js. @param {ServiceWorkerRegistration} service */
export function allowed(service: ServiceWorkerRegistration): Promise<boolean>;
/** Whether the server gives ranges of what the records promise. A native fetch whose first answer is bad downloads all of it,
 * and fails then. @param {import("./types").RecordDraft[]} drafts */
export function preflight(drafts: import("./types").RecordDraft[]): Promise<boolean>;
/** Start it. False: the browser refused, or there is nothing that it need fetch. @param {Kit} kit @param {ServiceWorkerRegistration} service @param {Row} row */
export function start(kit: Kit, service: ServiceWorkerRegistration, row: Row): Promise<boolean>;
/** Go on with what an earlier page has started. False: the browser has it no longer. @param {Kit} kit @param {ServiceWorkerRegistration} service @param {Row} row */
export function join(kit: Kit, service: ServiceWorkerRegistration, row: Row): Promise<boolean>;
/** Let go of it. @param {ServiceWorkerRegistration | undefined} service @param {Row} row */
export function stop(service: ServiceWorkerRegistration | undefined, row: Row): Promise<void>;
export function suits(drafts: import("./types").RecordDraft[]): boolean;
/** How long it waits; tests cannot. @type {{ stall: number }} ms without a byte */
export const patience: {
    stall: number;
};
export type Kit = import("./types").Kit;
export type Row = import("./types").RegistrationRow;
export type RecordRow = import("./types").RecordRow;
