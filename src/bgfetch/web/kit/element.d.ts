export class ModelDownload extends HTMLElement {
    static observedAttributes: string[];
    /** Texts of every element; change a key and call `refresh()`, or set before the first one is made. */
    static texts: Texts;
    /** The manager to use instead of what `ready()` of bgfetch.js gives. @type {BackgroundFetch | undefined} */
    backgroundFetch: BackgroundFetch | undefined;
    /** What is going on or stored, once looked up. @type {Registration | undefined} */
    registration: Registration | undefined;
    set name(value: string);
    get name(): string;
    set src(value: string);
    get src(): string;
    set manifest(value: string);
    get manifest(): string;
    set label(value: string);
    get label(): string;
    set sha256(value: string);
    get sha256(): string;
    set engine(value: "auto" | "native" | "worker");
    /** @returns {"auto"|"native"|"worker"} */
    get engine(): "auto" | "native" | "worker";
    set auto(value: boolean);
    get auto(): boolean;
    set disabled(value: boolean);
    get disabled(): boolean;
    /** @returns {State} */
    get state(): State;
    set texts(value: {
        [x: string]: string;
    });
    /** Texts of this element, before those of all. */
    get texts(): {
        [x: string]: string;
    };
    connectedCallback(): void;
    disconnectedCallback(): void;
    /** @param {string} name @param {string | null} before @param {string | null} now */
    attributeChangedCallback(name: string, before: string | null, now: string | null): void;
    /** Look again at what is stored and running, as at the start. */
    refresh(): Promise<void>;
    /** Resolves with the registration once the model is here and verified; stays open over failures, which can be retried. @returns {Promise<Registration>} */
    whenReady(): Promise<Registration>;
    /** Start, or go on; in the same task as the click, since Chromium starts a native fetch for a click only. */
    download(): Promise<void>;
    pause(): Promise<void>;
    resume(): Promise<void>;
    abort(): Promise<void>;
    delete(): Promise<void>;
    #private;
}
export type State = "idle" | "checking" | "queued" | "downloading" | "paused" | "verifying" | "ready" | "failed" | "evicted" | "unsupported";
export type BackgroundFetch = import("./bgfetch.js").BackgroundFetch;
export type Registration = import("./bgfetch.js").Registration;
export type Texts = Record<string, string>;
