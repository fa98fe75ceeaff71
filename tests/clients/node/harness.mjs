// What harness.py says, for Node: `node PROGRAM PROTOCOL PORT NAME FEATURES`.

import { isDeepStrictEqual } from "node:util";

const PACE_MS = 100;
const BEAT_MS = 100;
const GRACE_MS = 20_000;

export class Wrong extends Error {}

export function same(got, wanted, what) {
  if (!isDeepStrictEqual(got, wanted)) {
    const text = `${what}: ${JSON.stringify(got)} instead of ${JSON.stringify(wanted)}`;
    throw new Wrong(text.slice(0, 300));
  }
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class Load {
  constructor() {
    const [protocol, port, name, features] = process.argv.slice(2);
    this.protocol = Number(protocol);
    this.port = Number(port);
    this.name = name;
    this.features = features.split(",");
    this.done = Object.fromEntries(this.features.map((feature) => [feature, 0]));
    this.errors = [];
    this.wrong = [];
    this.beginning = new Promise((resolve) => process.stdin.once("data", resolve));
    this.stopping = new Promise((resolve) => process.stdin.on("close", resolve).resume());
    this.stopped = false;
    this.stopping.then(() => (this.stopped = true));
  }

  key(...parts) {
    return [this.name, ...parts].join(":");
  }

  count(feature) {
    this.done[feature] = (this.done[feature] ?? 0) + 1;
  }

  // 1, 2, 3 … at a steady pace until the end, each counted when it was done.
  async *rounds(feature) {
    for (let n = 1; !this.stopped; n++) {
      yield n;
      this.count(feature);
      await sleep(PACE_MS);
    }
  }

  say() {
    const { done, errors, wrong } = this;
    console.log(JSON.stringify({ done, errors: errors.slice(0, 10), wrong: wrong.slice(0, 10) }));
  }

  // The connection said something that nobody asked for.
  failed(feature, error) {
    (error instanceof Wrong ? this.wrong : this.errors).push(`${feature}: ${error}`);
  }

  // All features at once until the end; then the process ends.
  async run(features) {
    this.say();
    await Promise.race([this.beginning, this.stopping]);
    const beat = setInterval(() => this.say(), BEAT_MS);
    const ending = new Set(this.features);
    const running = this.features.map((feature) =>
      features[feature]()
        .catch((error) => this.failed(feature, error))
        .then(() => ending.delete(feature)),
    );
    await this.stopping;
    await Promise.race([Promise.all(running), sleep(GRACE_MS)]);
    clearInterval(beat);
    for (const feature of ending) this.errors.push(`${feature}: did not end`);
    this.say();
    process.exit(0);
  }
}
