// node-redis: one client for all, clients of their own for what blocks, a pool for WATCH.

import { createClient, createClientPool, defineScript, WatchError } from "redis";
import { Load, Wrong, same, sleep } from "./harness.mjs";

const load = new Load();
const text = (n) => String(n);

const addTo = defineScript({
  SCRIPT: "redis.call('INCRBY', KEYS[1], ARGV[1]) return {redis.call('GET', KEYS[1]), KEYS[1]}",
  NUMBER_OF_KEYS: 1,
  parseCommand(parser, key, by) {
    parser.pushKey(key);
    parser.push(text(by));
  },
  transformReply: (reply) => reply,
});

// No connection is made anew.
const options = {
  RESP: load.protocol,
  name: load.name,
  socket: { port: load.port, reconnectStrategy: false },
  scripts: { addTo },
};

async function connect(more = {}) {
  const client = createClient({ ...options, ...more });
  client.on("error", (error) => load.failed("connection", error));
  client.on("end", () => load.stopped || load.failed("connection", new Error("closed")));
  client.on("reconnecting", () => load.failed("connection", new Error("connects again")));
  return client.connect();
}

const r = await connect();

async function strings() {
  const key = load.key("string");
  for await (const n of load.rounds("strings")) {
    same(await r.set(key, `value ${n}`), "OK", "SET");
    same(await r.append(key, "!"), `value ${n}!`.length, "APPEND");
    same(await r.get(key), `value ${n}!`, "GET");
    same(await r.incrBy(key + ":n", 3), 3 * n, "INCRBY");
    same(await r.incrByFloat(key + ":f", 0.5), text(n / 2), "INCRBYFLOAT");
    same(await r.set(key, "no", { condition: "NX" }), null, "SET NX");
    same(await r.mSet({ [key + ":a"]: text(n), [key + ":b"]: text(-n) }), "OK", "MSET");
    const replies = await r.mGet([key + ":a", key + ":none", key + ":b"]);
    same(replies, [text(n), null, text(-n)], "MGET");
    same(await r.getDel(key), `value ${n}!`, "GETDEL");
    same(await r.exists(key), 0, "EXISTS");
  }
}

async function collections() {
  const [hash, set, zset, list] = ["hash", "set", "zset", "list"].map((k) => load.key(k));
  const model = {};
  for await (const n of load.rounds("collections")) {
    model[`f${n % 5}`] = text(n);
    await r.hSet(hash, { [`f${n % 5}`]: n });
    same({ ...(await r.hGetAll(hash)) }, model, "HGETALL");
    same(await r.sAdd(set, [text(n), text(n + 1)]), n === 1 ? 2 : 1, "SADD");
    same(await r.sCard(set), n + 1, "SCARD");
    same(await r.zAdd(zset, { score: n, value: `m${n}` }), 1, "ZADD");
    const top = await r.zRangeWithScores(zset, -1, -1);
    same(top, [{ value: `m${n}`, score: n }], "ZRANGE");
    if (n % 2 === 0) same(await r.zPopMax(zset), { value: `m${n}`, score: n }, "ZPOPMAX");
    same(await r.zCard(zset), Math.ceil(n / 2), "ZCARD");
    same(await r.rPush(list, text(n)), Math.min(n, 11), "RPUSH");
    same(await r.lTrim(list, -10, -1), "OK", "LTRIM");
    same((await r.lRange(list, 0, -1)).length, Math.min(n, 10), "LRANGE");
  }
}

async function pipelines() {
  for await (const n of load.rounds("pipelines")) {
    // What is asked in one turn of the loop goes as one pipeline.
    const asked = Array.from({ length: 20 }, (_, i) => r.incr(load.key("piped", i)));
    same(await Promise.all(asked), Array(20).fill(n), "auto-pipelining");
    const pipe = r.multi();
    for (let i = 0; i < 20; i++) pipe.get(load.key("piped", i));
    same(await pipe.execAsPipeline(), Array(20).fill(text(n)), "pipeline");
  }
}

async function transactions() {
  const key = load.key("block");
  for await (const n of load.rounds("transactions")) {
    const block = r.multi().incr(key).sAdd(key + ":s", text(n)).sCard(key + ":s").get(key);
    same(await block.exec(), [n, 1, n, text(n)], "EXEC");
  }
}

async function watch() {
  const key = load.key("watched");
  const pool = createClientPool(options, { minimum: 1, maximum: 3 });
  pool.on("error", (error) => load.failed("watch", error));
  await pool.connect();
  let added = 0;
  async function add(client) {
    await client.watch(key);
    const was = Number((await client.get(key)) ?? 0);
    await client.multi().set(key, text(was + 1)).exec();
  }
  async function worker() {
    for await (const _ of load.rounds("watch")) {
      for (let isDone = false; !isDone; ) {
        isDone = await pool.execute(add).then(
          () => true,
          (error) => {
            if (!(error instanceof WatchError)) throw error;
            return false;
          },
        );
      }
      added++;
    }
  }
  await Promise.all([worker(), worker(), worker()]);
  same(await r.get(key), text(added), "the watched counter");
}

async function scan() {
  const keys = new Set(Array.from({ length: 150 }, (_, i) => load.key("scanned", i)));
  for (const key of keys) await r.set(key, "1");
  const members = new Set(Array.from({ length: 600 }, (_, i) => `m${i}`));
  await r.sAdd(load.key("many"), [...members]);
  for await (const _ of load.rounds("scan")) {
    const found = new Set();
    for await (const part of r.scanIterator({ MATCH: load.key("scanned", "*"), COUNT: 200 }))
      for (const key of part) found.add(key);
    same(found, keys, "SCAN");
    const read = new Set();
    for await (const part of r.sScanIterator(load.key("many"), { COUNT: 100 }))
      for (const member of part) read.add(member);
    same(read, members, "SSCAN");
  }
}

async function expiry() {
  const key = load.key("expiring");
  for await (const n of load.rounds("expiry")) {
    same(await r.set(key, text(n), { expiration: { type: "EX", value: 100 } }), "OK", "SET EX");
    const ttl = await r.ttl(key);
    same(ttl >= 98 && ttl <= 100, true, `TTL ${ttl}`);
    same(await r.persist(key), 1, "PERSIST");
    same(await r.pTTL(key), -1, "PTTL");
    if (n % 10 === 0) {
      const ends = Date.now() + 10_000;
      const soon = { expiration: { type: "PX", value: 40 } };
      same(await r.set(key + ":soon", text(n), soon), "OK", "SET PX");
      for (let value; (value = await r.get(key + ":soon")) !== null; ) {
        same(value, text(n), "GET of a key that will expire");
        same(Date.now() < ends, true, "the key has expired");
      }
    }
  }
}

async function databases() {
  const key = load.key("db");
  const [one, two] = [await connect({ database: 1 }), await connect({ database: 2 })];
  for await (const n of load.rounds("databases")) {
    same(await one.set(key, text(n)), "OK", "SET in 1");
    same(await two.set(key, text(-n)), "OK", "SET in 2");
    same(await r.get(key), null, "GET in 0");
    same(await Promise.all([one.get(key), two.get(key)]), [text(n), text(-n)], "GET");
    same(await one.copy(key, key + ":copy", { DB: 2, REPLACE: true }), 1, "COPY DB");
    same(await two.getDel(key + ":copy"), text(n), "GETDEL of the copy");
  }
}

async function identity() {
  const own = await connect();
  const me = await own.clientId();
  for await (const n of load.rounds("identity")) {
    same(await own.clientId(), me, "CLIENT ID");
    same(await own.clientGetName(), load.name, "CLIENT GETNAME");
    same(await own.echo(`x${n}`), `x${n}`, "ECHO");
    same(await own.ping(), "PONG", "PING");
  }
}

async function inspection() {
  const own = await connect();
  const me = await own.clientId();
  for await (const n of load.rounds("inspection")) {
    const { id, name } = await own.clientInfo();
    same([id, name], [me, load.name], "CLIENT INFO");
    if (n % 10 !== 1) continue; // It is long, for all of them are in it.
    const listed = (await own.clientList()).filter((client) => client.id === me);
    same(listed.map((client) => client.name), [load.name], "CLIENT LIST");
  }
}

async function queue() {
  const [jobs, doing] = [load.key("jobs"), load.key("doing")];
  const taken = [];
  let sent = 0;
  async function produce() {
    for await (const n of load.rounds("jobs")) {
      await r.lPush(jobs, [text(2 * n - 1), text(2 * n)]);
      sent = 2 * n;
    }
    await r.lPush(jobs, ["end", "end"]);
  }
  async function consume(take) {
    const own = await connect();
    let last = 0;
    for (let job; (job = await take(own)) !== "end"; ) {
      same(Number(job) > last, true, `${job} behind ${last}`);
      taken.push((last = Number(job)));
      load.count("queue");
    }
  }
  const pop = async (own) => (await own.brPop([jobs, doing + ":none"], 0)).element;
  const move = async (own) => {
    const job = await own.blMove(jobs, doing, "RIGHT", "LEFT", 0);
    same(await r.lRem(doing, 1, job), 1, "LREM");
    return job;
  };
  async function none() {
    const own = await connect();
    while (!load.stopped) same(await own.blPop(load.key("nothing"), 0.1), null, "BLPOP of nothing");
  }
  await Promise.all([produce(), consume(pop), consume(move), none()]);
  taken.sort((a, b) => a - b);
  same(taken, Array.from({ length: sent }, (_, i) => i + 1), "jobs done");
  same(await r.exists([jobs, doing]), 0, "jobs that are left");
}

async function streams() {
  const key = load.key("stream");
  await r.xGroupCreate(key, "group", "0", { MKSTREAM: true });
  const [sent, taken, seen] = [[], [], []];
  let ended = false;
  async function produce() {
    for await (const n of load.rounds("entries")) sent.push(await r.xAdd(key, "*", { n: text(n) }));
    ended = true;
  }
  async function consume(name) {
    const own = await connect();
    while (!ended || taken.length < sent.length) {
      const from = { key, id: ">" };
      const reply = await own.xReadGroup("group", name, from, { COUNT: 5, BLOCK: 100 });
      for (const { id } of reply?.[0].messages ?? []) {
        same(await r.xAck(key, "group", id), 1, "XACK");
        taken.push(id);
        load.count("streams");
      }
    }
  }
  async function tail() {
    const own = await connect();
    while (!ended || seen.length < sent.length) {
      const reply = await own.xRead({ key, id: seen.at(-1) ?? "0" }, { BLOCK: 100 });
      for (const { id, message } of reply?.[0].messages ?? []) {
        seen.push(id);
        same({ ...message }, { n: text(seen.length) }, "XREAD");
      }
    }
  }
  await Promise.all([produce(), consume("a"), consume("b"), tail()]);
  same(taken.sort(), sent.toSorted(), "entries taken");
  same(seen, sent, "entries read");
  same((await r.xPending(key, "group")).pending, 0, "XPENDING");
}

async function pubsub() {
  const base = load.key("channel");
  const subscriber = await connect();
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
  await subscriber.subscribe([base + ":a", base + ":b"], (message, at) => heard(at, message));
  await subscriber.pSubscribe(base + ":*", (message, at) => heard(`* ${at}`, message));
  async function publish(channel) {
    for await (const n of load.rounds("messages")) {
      same(await r.publish(channel, text(n)), 2, "PUBLISH");
      // With RESP3 a subscriber may go on asking.
      if (load.protocol === 3) same(await subscriber.get(base), null, "GET of a subscriber");
    }
    await r.publish(channel, "end");
  }
  await Promise.all([finished, publish(base + ":a"), publish(base + ":b")]);
}

async function scripts() {
  const key = load.key("scripted");
  const loaded = await r.scriptLoad(`return redis.call('RPUSH', KEYS[1], '${load.name}')`);
  for await (const n of load.rounds("scripts")) {
    same(await r.addTo(key, 2), [text(2 * n), key], "a defined script");
    // Loaded once, before the first flip.
    same(await r.evalSha(loaded, { keys: [key + ":list"] }), n, "EVALSHA");
  }
}

const RELEASE =
  "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

async function locks() {
  const key = load.key("locked");
  const held = { condition: "NX", expiration: { type: "PX", value: 60_000 } };
  let added = 0;
  async function worker(me) {
    for await (const _ of load.rounds("locks")) {
      while ((await r.set(key + ":lock", me, held)) === null) await sleep(5);
      await r.set(key, text(Number((await r.get(key)) ?? 0) + 1));
      const released = await r.eval(RELEASE, { keys: [key + ":lock"], arguments: [me] });
      same(released, 1, "the lock is let go");
      added++;
    }
  }
  await Promise.all([worker("a"), worker("b"), worker("c")]);
  same(await r.get(key), text(added), "the locked counter");
}

async function monitor() {
  const watching = await connect();
  let seen = 0;
  await watching.monitor((line) => {
    const token = line.match(/"ECHO" "(.*)"$/)?.[1];
    if (!token?.startsWith(load.key("monitored"))) return;
    if (token === load.key("monitored", ++seen)) load.count("monitor");
    else load.failed("monitor", new Wrong(`${token} is not the next one: ${seen}`));
  });
  for await (const n of load.rounds("echoes")) await r.echo(load.key("monitored", n));
  const ends = Date.now() + 10_000;
  while (seen < load.done.echoes && Date.now() < ends) await sleep(10);
  same(seen, load.done.echoes, "commands that MONITOR told");
}

async function cache() {
  const key = load.key("cached");
  const cached = await connect({ clientSideCache: { ttl: 0, maxEntries: 0 } });
  for await (const n of load.rounds("cache")) {
    same(await r.set(key, text(n)), "OK", "SET");
    const ends = Date.now() + 10_000;
    for (let value; (value = await cached.get(key)) !== text(n); await sleep(1)) {
      same(value === null || value === text(n - 1), true, `GET ${value} of the cache at ${n}`);
      same(Date.now() < ends, true, `the cache no longer has ${value} at ${n}`);
    }
    same([await cached.get(key), await cached.get(key)], [text(n), text(n)], "GET of the cache");
  }
}

load.run({
  ...{ strings, collections, pipelines, transactions, watch, scan, expiry, databases, identity },
  ...{ inspection, queue, streams, pubsub, scripts, locks, monitor, cache },
});
