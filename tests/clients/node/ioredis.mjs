// ioredis: one connection for all, and one of its own for each that blocks or listens.

import Redis from "ioredis";
import { Load, Wrong, same, sleep } from "./harness.mjs";

const load = new Load();

// Nothing is tried again, and no connection is made anew.
function connect(options = {}) {
  const client = new Redis({
    port: load.port,
    protocol: load.protocol,
    connectionName: load.name,
    retryStrategy: () => null,
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    autoResubscribe: false,
    ...options,
  });
  client.on("error", (error) => load.failed("connection", error));
  client.on("close", () => load.stopped || load.failed("connection", new Error("closed")));
  return client;
}

const r = connect();
const auto = connect({ enableAutoPipelining: true });
const text = (n) => String(n);

async function strings() {
  const key = load.key("string");
  for await (const n of load.rounds("strings")) {
    same(await r.set(key, `value ${n}`), "OK", "SET");
    same(await r.append(key, "!"), `value ${n}!`.length, "APPEND");
    same(await r.getBuffer(key), Buffer.from(`value ${n}!`), "GET");
    same(await r.incrby(key + ":n", 3), 3 * n, "INCRBY");
    same(await r.incrbyfloat(key + ":f", 0.5), text(n / 2), "INCRBYFLOAT");
    same(await r.set(key, "no", "NX"), null, "SET NX");
    same(await r.mset(new Map([[key + ":a", n], [key + ":b", -n]])), "OK", "MSET");
    same(await r.mget(key + ":a", key + ":none", key + ":b"), [text(n), null, text(-n)], "MGET");
    same(await r.getdel(key), `value ${n}!`, "GETDEL");
    same(await r.exists(key), 0, "EXISTS");
  }
}

async function collections() {
  const [hash, set, zset, list] = ["hash", "set", "zset", "list"].map((k) => load.key(k));
  const model = {};
  for await (const n of load.rounds("collections")) {
    model[`f${n % 5}`] = text(n);
    await r.hset(hash, { [`f${n % 5}`]: n });
    same({ ...(await r.hgetall(hash)) }, model, "HGETALL");
    same(await r.sadd(set, n, n + 1), n === 1 ? 2 : 1, "SADD");
    same(await r.scard(set), n + 1, "SCARD");
    same(await r.zadd(zset, n, `m${n}`), 1, "ZADD");
    same(await r.zrange(zset, -1, -1, "WITHSCORES"), [`m${n}`, text(n)], "ZRANGE");
    if (n % 2 === 0) same(await r.zpopmax(zset), [`m${n}`, text(n)], "ZPOPMAX");
    same(await r.zcard(zset), Math.ceil(n / 2), "ZCARD");
    same(await r.rpush(list, n), Math.min(n, 11), "RPUSH");
    same(await r.ltrim(list, -10, -1), "OK", "LTRIM");
    same((await r.lrange(list, 0, -1)).length, Math.min(n, 10), "LRANGE");
  }
}

async function pipelines() {
  for await (const n of load.rounds("pipelines")) {
    const pipe = r.pipeline();
    for (let i = 0; i < 20; i++) pipe.incr(load.key("piped", i)).get(load.key("piped", i));
    const replies = await pipe.exec();
    same(replies, Array(20).fill([[null, n], [null, text(n)]]).flat(), "pipeline");
    // What is asked in one turn of the loop goes as one pipeline.
    const asked = Array.from({ length: 10 }, (_, i) => auto.hincrby(load.key("auto"), i, 1));
    same(await Promise.all(asked), Array(10).fill(n), "auto-pipelining");
  }
}

async function transactions() {
  const key = load.key("block");
  for await (const n of load.rounds("transactions")) {
    const block = r.multi().incr(key).sadd(key + ":s", n).scard(key + ":s").get(key);
    same(await block.exec(), [[null, n], [null, 1], [null, n], [null, text(n)]], "EXEC");
  }
}

async function watch() {
  const key = load.key("watched");
  let added = 0;
  async function worker() {
    const own = connect();
    for await (const _ of load.rounds("watch")) {
      for (;;) {
        await own.watch(key);
        const was = Number((await own.get(key)) ?? 0);
        if ((await own.multi().set(key, was + 1).exec()) !== null) break;
      }
      added++;
    }
  }
  await Promise.all([worker(), worker(), worker()]);
  same(await r.get(key), text(added), "the watched counter");
}

async function scan() {
  const keys = new Set(Array.from({ length: 150 }, (_, i) => load.key("scanned", i)));
  for (const key of keys) await r.set(key, 1);
  const fields = Object.fromEntries(Array.from({ length: 600 }, (_, i) => [`f${i}`, text(i)]));
  await r.hset(load.key("many"), fields);
  for await (const _ of load.rounds("scan")) {
    const found = new Set();
    for await (const part of r.scanStream({ match: load.key("scanned", "*"), count: 200 }))
      for (const key of part) found.add(key);
    same(found, keys, "SCAN");
    const read = {};
    for await (const part of r.hscanStream(load.key("many"), { count: 100 }))
      for (let i = 0; i < part.length; i += 2) read[part[i]] = part[i + 1];
    same(read, fields, "HSCAN");
  }
}

async function expiry() {
  const key = load.key("expiring");
  for await (const n of load.rounds("expiry")) {
    same(await r.set(key, n, "EX", 100), "OK", "SET EX");
    const ttl = await r.ttl(key);
    same(ttl >= 98 && ttl <= 100, true, `TTL ${ttl}`);
    same(await r.persist(key), 1, "PERSIST");
    same(await r.pttl(key), -1, "PTTL");
    if (n % 10 === 0) {
      const ends = Date.now() + 10_000;
      same(await r.set(key + ":soon", n, "PX", 40), "OK", "SET PX");
      for (let value; (value = await r.get(key + ":soon")) !== null; ) {
        same(value, text(n), "GET of a key that will expire");
        same(Date.now() < ends, true, "the key has expired");
      }
    }
  }
}

async function databases() {
  const key = load.key("db");
  const [one, two] = [connect({ db: 1 }), connect({ db: 2 })];
  const rover = connect();
  for await (const n of load.rounds("databases")) {
    same(await one.set(key, n), "OK", "SET in 1");
    same(await two.set(key, -n), "OK", "SET in 2");
    same(await r.get(key), null, "GET in 0");
    const asked = [rover.select(1), rover.get(key), rover.select(2), rover.get(key)];
    same(await Promise.all(asked), ["OK", text(n), "OK", text(-n)], "SELECT");
  }
}

async function identity() {
  const own = connect();
  const me = await own.client("ID");
  for await (const n of load.rounds("identity")) {
    same(await own.client("ID"), me, "CLIENT ID");
    same(await own.client("GETNAME"), load.name, "CLIENT GETNAME");
    same(await own.echo(`x${n}`), `x${n}`, "ECHO");
    same(await own.ping(), "PONG", "PING");
  }
}

async function inspection() {
  const own = connect();
  const me = await own.client("ID");
  for await (const n of load.rounds("inspection")) {
    const info = await own.client("INFO");
    same(info.includes(`id=${me} `) && info.includes(` name=${load.name} `), true, info);
    if (n % 10 !== 1) continue; // It is long, for all of them are in it.
    const list = await own.client("LIST");
    same(list.split("\n").filter((line) => line.startsWith(`id=${me} `)).length, 1, "CLIENT LIST");
  }
}

async function queue() {
  const [jobs, doing] = [load.key("jobs"), load.key("doing")];
  const taken = [];
  let sent = 0;
  async function produce() {
    for await (const n of load.rounds("jobs")) {
      await r.lpush(jobs, 2 * n - 1, 2 * n);
      sent = 2 * n;
    }
    await r.lpush(jobs, "end", "end");
  }
  async function consume(take) {
    const own = connect();
    let last = 0;
    for (let job; (job = await take(own)) !== "end"; ) {
      same(Number(job) > last, true, `${job} behind ${last}`);
      taken.push((last = Number(job)));
      load.count("queue");
    }
  }
  const pop = async (own) => (await own.brpop(jobs, doing + ":none", 0))[1];
  const move = async (own) => {
    const job = await own.blmove(jobs, doing, "RIGHT", "LEFT", 0);
    same(await r.lrem(doing, 1, job), 1, "LREM");
    return job;
  };
  async function none() {
    const own = connect();
    while (!load.stopped) same(await own.blpop(load.key("nothing"), 0.1), null, "BLPOP of nothing");
  }
  await Promise.all([produce(), consume(pop), consume(move), none()]);
  taken.sort((a, b) => a - b);
  same(taken, Array.from({ length: sent }, (_, i) => i + 1), "jobs done");
  same(await r.exists(jobs, doing), 0, "jobs that are left");
}

async function streams() {
  const key = load.key("stream");
  await r.xgroup("CREATE", key, "group", "0", "MKSTREAM");
  const [sent, taken, seen] = [[], [], []];
  let ended = false;
  async function produce() {
    for await (const n of load.rounds("entries")) sent.push(await r.xadd(key, "*", "n", n));
    ended = true;
  }
  async function consume(name) {
    const own = connect();
    while (!ended || taken.length < sent.length) {
      const reply = await own.xreadgroup(
        ...["GROUP", "group", name, "COUNT", 5, "BLOCK", 100, "STREAMS", key, ">"],
      );
      for (const [id] of entries(reply)) {
        same(await r.xack(key, "group", id), 1, "XACK");
        taken.push(id);
        load.count("streams");
      }
    }
  }
  async function tail() {
    const own = connect();
    while (!ended || seen.length < sent.length) {
      const reply = await own.xread("BLOCK", 100, "STREAMS", key, seen.at(-1) ?? "0");
      for (const [id, [field, n]] of entries(reply)) {
        seen.push(id);
        same([field, n], ["n", text(seen.length)], "XREAD");
      }
    }
  }
  await Promise.all([produce(), consume("a"), consume("b"), tail()]);
  same(taken.sort(), sent.toSorted(), "entries taken");
  same(seen, sent, "entries read");
  same((await r.xpending(key, "group"))[0], 0, "XPENDING");
}

// The entries of XREAD for one stream: [[key, entries]], flat in RESP3.
function entries(reply) {
  if (reply === null) return [];
  return Array.isArray(reply[0]) ? reply[0][1] : reply[1];
}

async function pubsub() {
  const base = load.key("channel");
  const subscriber = connect();
  const last = {};
  let ends = 0;
  let finish, fail;
  const finished = new Promise((resolve, reject) => ((finish = resolve), (fail = reject)));
  function heard(where, message) {
    if (message === "end") {
      if (++ends === 4) finish();
      return;
    }
    const wanted = (last[where] ?? 0) + 1;
    if (message !== text(wanted)) fail(new Wrong(`${where}: ${message} instead of ${wanted}`));
    last[where] = Number(message);
    load.count("pubsub");
  }
  subscriber.on("message", (channel, message) => heard(channel, message));
  subscriber.on("pmessage", (_, channel, message) => heard(`* ${channel}`, message));
  await subscriber.subscribe(base + ":a", base + ":b");
  same(await subscriber.psubscribe(base + ":*"), 3, "PSUBSCRIBE");
  async function publish(channel) {
    for await (const n of load.rounds("messages"))
      same(await r.publish(channel, n), 2, "PUBLISH");
    await r.publish(channel, "end");
  }
  await Promise.all([finished, publish(base + ":a"), publish(base + ":b")]);
}

async function scripts() {
  const key = load.key("scripted");
  r.defineCommand("addTo", {
    numberOfKeys: 1,
    lua: "redis.call('INCRBY', KEYS[1], ARGV[1]) return {redis.call('GET', KEYS[1]), KEYS[1]}",
  });
  const loaded = await r.script("LOAD", `return redis.call('RPUSH', KEYS[1], '${load.name}')`);
  for await (const n of load.rounds("scripts")) {
    same(await r.addTo(key, 2), [text(2 * n), key], "a defined command");
    // Loaded once, before the first flip.
    same(await r.evalsha(loaded, 1, key + ":list"), n, "EVALSHA");
  }
}

const RELEASE =
  "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

async function locks() {
  const key = load.key("locked");
  let added = 0;
  async function worker(me) {
    for await (const _ of load.rounds("locks")) {
      while ((await r.set(key + ":lock", me, "PX", 60_000, "NX")) === null) await sleep(5);
      await r.set(key, Number((await r.get(key)) ?? 0) + 1);
      same(await r.eval(RELEASE, 1, key + ":lock", me), 1, "the lock is let go");
      added++;
    }
  }
  await Promise.all([worker("a"), worker("b"), worker("c")]);
  same(await r.get(key), text(added), "the locked counter");
}

load.run({
  ...{ strings, collections, pipelines, transactions, watch, scan, expiry, databases, identity },
  ...{ inspection, queue, streams, pubsub, scripts, locks },
});
