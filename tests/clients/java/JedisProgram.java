import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import redis.clients.jedis.AbstractPipeline;
import redis.clients.jedis.AbstractTransaction;
import redis.clients.jedis.ConnectionPoolConfig;
import redis.clients.jedis.DefaultJedisClientConfig;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.Jedis;
import redis.clients.jedis.JedisPubSub;
import redis.clients.jedis.RedisClient;
import redis.clients.jedis.RedisProtocol;
import redis.clients.jedis.Response;
import redis.clients.jedis.StreamEntryID;
import redis.clients.jedis.Transaction;
import redis.clients.jedis.args.ListDirection;
import redis.clients.jedis.csc.Cache;
import redis.clients.jedis.csc.DefaultCache;
import redis.clients.jedis.params.ScanParams;
import redis.clients.jedis.params.SetParams;
import redis.clients.jedis.params.XAddParams;
import redis.clients.jedis.params.XReadGroupParams;
import redis.clients.jedis.params.XReadParams;
import redis.clients.jedis.resps.ScanResult;
import redis.clients.jedis.resps.StreamEntry;
import redis.clients.jedis.resps.Tuple;

/** Jedis: threads that share a pool, and connections of their own for WATCH and what blocks. */
final class JedisProgram {
    private final Load load;
    private final RedisClient r;

    private JedisProgram(Load load) {
        this.load = load;
        ConnectionPoolConfig pool = new ConnectionPoolConfig();
        pool.setMaxTotal(30);
        pool.setMaxIdle(30);
        // Who is idle for a minute stays: a connection that ends was lost.
        pool.setTimeBetweenEvictionRuns(Duration.ofMillis(-1));
        r = RedisClient.builder().hostAndPort("127.0.0.1", load.port).clientConfig(config(0))
            .poolConfig(pool).build();
    }

    private DefaultJedisClientConfig config(int db) {
        return DefaultJedisClientConfig.builder()
            .protocol(load.protocol == 3 ? RedisProtocol.RESP3 : RedisProtocol.RESP2)
            .database(db).clientName(load.name).timeoutMillis(30_000).build();
    }

    private Jedis connect(int db) {
        return new Jedis(new HostAndPort("127.0.0.1", load.port), config(db));
    }

    private static String text(long n) {
        return Long.toString(n);
    }

    private static void same(Object got, Object wanted, String what) {
        Load.same(got, wanted, what);
    }

    private void strings() throws Exception {
        String key = load.key("string");
        load.rounds("strings", n -> {
            String value = "value " + n;
            same(r.set(key, value), "OK", "SET");
            same(r.append(key, "!"), value.length() + 1L, "APPEND");
            same(r.get(key), value + "!", "GET");
            same(r.incrBy(key + ":n", 3), 3L * n, "INCRBY");
            same(r.incrByFloat(key + ":f", 0.5), n / 2.0, "INCRBYFLOAT");
            same(r.set(key, "no", new SetParams().nx()), null, "SET NX");
            same(r.mset(key + ":a", text(n), key + ":b", text(-n)), "OK", "MSET");
            List<String> read = r.mget(key + ":a", key + ":none", key + ":b");
            same(read, java.util.Arrays.asList(text(n), null, text(-n)), "MGET");
            same(r.getDel(key), value + "!", "GETDEL");
            same(r.exists(key), false, "EXISTS");
        });
    }

    private void collections() throws Exception {
        String hash = load.key("hash"), set = load.key("set");
        String zset = load.key("zset"), list = load.key("list");
        Map<String, String> model = new HashMap<>();
        load.rounds("collections", n -> {
            model.put("f" + n % 5, text(n));
            r.hset(hash, "f" + n % 5, text(n));
            same(r.hgetAll(hash), model, "HGETALL");
            same(r.sadd(set, text(n)), 1L, "SADD");
            same(r.smembers(set).size(), n, "SMEMBERS");
            Tuple top = new Tuple("m" + n, (double) n);
            same(r.zadd(zset, n, "m" + n), 1L, "ZADD");
            same(r.zrangeWithScores(zset, -1, -1), List.of(top), "ZRANGE");
            if (n % 2 == 0) same(r.zpopmax(zset), top, "ZPOPMAX");
            same(r.zcard(zset), (n + 1) / 2L, "ZCARD");
            same(r.rpush(list, text(n)), Math.min(n, 11L), "RPUSH");
            same(r.ltrim(list, -10, -1), "OK", "LTRIM");
            same(r.lindex(list, -1), text(n), "LINDEX");
        });
    }

    private void pipelines() throws Exception {
        load.rounds("pipelines", n -> {
            List<Response<Long>> sums = new ArrayList<>();
            List<Response<String>> values = new ArrayList<>();
            try (AbstractPipeline pipe = r.pipelined()) {
                for (int i = 0; i < 20; i++) {
                    sums.add(pipe.incr(load.key("piped", i)));
                    values.add(pipe.get(load.key("piped", i)));
                }
            }
            for (Response<Long> sum : sums) same(sum.get(), (long) n, "INCR in a pipeline");
            for (Response<String> each : values) same(each.get(), text(n), "GET in a pipeline");
        });
    }

    private void transactions() throws Exception {
        String key = load.key("block");
        load.rounds("transactions", n -> {
            try (AbstractTransaction block = r.multi()) {
                block.incr(key);
                block.sadd(key + ":s", text(n));
                block.get(key);
                same(block.exec(), List.of((long) n, 1L, text(n)), "EXEC");
            }
        });
    }

    private void watch() throws Exception {
        String key = load.key("watched");
        AtomicInteger added = new AtomicInteger();
        Load.Work worker = () -> {
            try (Jedis own = connect(0)) {
                load.rounds("watch", n -> {
                    while (true) {
                        own.watch(key);
                        String was = own.get(key);
                        Transaction block = own.multi();
                        block.set(key, text(was == null ? 1 : Long.parseLong(was) + 1));
                        if (block.exec() != null) break;
                    }
                    added.incrementAndGet();
                });
            }
        };
        load.together(worker, worker, worker);
        same(r.get(key), text(added.get()), "the watched counter");
    }

    private void scan() throws Exception {
        Set<String> keys = new HashSet<>();
        Map<String, String> fields = new HashMap<>();
        for (int i = 0; i < 150; i++) keys.add(load.key("scanned", i));
        for (int i = 0; i < 600; i++) fields.put("f" + i, text(i));
        for (String key : keys) r.set(key, "1");
        r.hset(load.key("many"), fields);
        load.rounds("scan", n -> {
            Set<String> found = new HashSet<>();
            ScanParams some = new ScanParams().match(load.key("scanned", "*")).count(200);
            String cursor = ScanParams.SCAN_POINTER_START;
            do {
                ScanResult<String> part = r.scan(cursor, some);
                found.addAll(part.getResult());
                cursor = part.getCursor();
            } while (!cursor.equals(ScanParams.SCAN_POINTER_START));
            same(found, keys, "SCAN");
            Map<String, String> read = new HashMap<>();
            do {
                ScanResult<Map.Entry<String, String>> part =
                    r.hscan(load.key("many"), cursor, new ScanParams().count(100));
                part.getResult().forEach(each -> read.put(each.getKey(), each.getValue()));
                cursor = part.getCursor();
            } while (!cursor.equals(ScanParams.SCAN_POINTER_START));
            same(read, fields, "HSCAN");
        });
    }

    private void expiry() throws Exception {
        String key = load.key("expiring");
        load.rounds("expiry", n -> {
            same(r.setex(key, 100, text(n)), "OK", "SETEX");
            long ttl = r.ttl(key);
            same(ttl >= 98 && ttl <= 100, true, "TTL " + ttl);
            same(r.persist(key), 1L, "PERSIST");
            same(r.pttl(key), -1L, "PTTL");
            if (n % 10 == 0) {
                long ends = System.nanoTime() + 10_000_000_000L;
                same(r.psetex(key + ":soon", 40, text(n)), "OK", "PSETEX");
                for (String value; (value = r.get(key + ":soon")) != null; ) {
                    same(value, text(n), "GET of a key that will expire");
                    same(System.nanoTime() < ends, true, "the key has expired");
                }
            }
        });
    }

    private void databases() throws Exception {
        String key = load.key("db");
        try (Jedis one = connect(1); Jedis two = connect(2); Jedis rover = connect(0)) {
            load.rounds("databases", n -> {
                same(one.set(key, text(n)), "OK", "SET in 1");
                same(two.set(key, text(-n)), "OK", "SET in 2");
                same(r.get(key), null, "GET in 0");
                same(rover.select(1), "OK", "SELECT");
                same(rover.get(key), text(n), "GET in 1");
                same(rover.select(2), "OK", "SELECT");
                same(rover.get(key), text(-n), "GET in 2");
                same(one.copy(key, key + ":copy", 2, true), true, "COPY DB");
                same(two.getDel(key + ":copy"), text(n), "GETDEL of the copy");
            });
        }
    }

    private void identity() throws Exception {
        try (Jedis own = connect(0)) {
            long me = own.clientId();
            load.rounds("identity", n -> {
                same(own.clientId(), me, "CLIENT ID");
                same(own.clientGetname(), load.name, "CLIENT GETNAME");
                same(own.echo(text(n)), text(n), "ECHO");
                same(own.ping(), "PONG", "PING");
                // A connection of the pool that was lost would be made anew.
                same(r.getPool().getDestroyedCount(), 0L, "connections that were lost");
            });
        }
    }

    private void inspection() throws Exception {
        try (Jedis own = connect(0)) {
            long me = own.clientId();
            load.rounds("inspection", n -> {
                String info = own.clientInfo();
                same(info.startsWith("id=" + me + " "), true, "CLIENT INFO: " + info);
                same(info.contains(" name=" + load.name + " "), true, "CLIENT INFO: " + info);
                if (n % 10 != 1) return; // It is long, for all of them are in it.
                long listed = own.clientList().lines().filter(each -> each.startsWith("id=" + me + " ")).count();
                same(listed, 1L, "CLIENT LIST");
            });
        }
    }

    private interface Take {
        String from(Jedis own);
    }

    private void queue() throws Exception {
        String jobs = load.key("jobs"), doing = load.key("doing");
        Map<String, Integer> taken = new ConcurrentSkipListMap<>();
        AtomicInteger sent = new AtomicInteger();
        Load.Work produce = () -> {
            sent.set(load.rounds("jobs", n -> r.lpush(jobs, text(2L * n - 1), text(2L * n))));
            r.lpush(jobs, "end", "end");
        };
        Take pop = own -> own.brpop(0, doing + ":none", jobs).get(1);
        Take move = own -> {
            String job = own.blmove(jobs, doing, ListDirection.RIGHT, ListDirection.LEFT, 0);
            same(own.lrem(doing, 1, job), 1L, "LREM");
            return job;
        };
        Load.Work none = () -> {
            try (Jedis own = connect(0)) {
                while (!load.isStopped()) {
                    same(own.blpop(0.1, load.key("nothing")), null, "BLPOP of nothing");
                }
            }
        };
        load.together(produce, consumer(pop, taken), consumer(move, taken), none);
        for (int n = 1; n <= 2 * sent.get(); n++) same(taken.get(text(n)), 1, "job " + n);
        same(taken.size(), 2 * sent.get(), "jobs done");
        same(r.exists(jobs, doing), 0L, "jobs that are left");
    }

    private Load.Work consumer(Take take, Map<String, Integer> taken) {
        return () -> {
            try (Jedis own = connect(0)) {
                long last = 0;
                for (String job; !(job = take.from(own)).equals("end"); ) {
                    same(Long.parseLong(job) > last, true, job + " behind " + last);
                    last = Long.parseLong(job);
                    taken.merge(job, 1, Integer::sum);
                    load.count("queue");
                }
            }
        };
    }

    private void streams() throws Exception {
        String key = load.key("stream");
        r.xgroupCreate(key, "group", new StreamEntryID("0-0"), true);
        List<String> sent = Collections.synchronizedList(new ArrayList<>());
        List<String> seen = Collections.synchronizedList(new ArrayList<>());
        Map<String, Integer> taken = new ConcurrentSkipListMap<>();
        AtomicBoolean hasEnded = new AtomicBoolean();
        Load.Work produce = () -> {
            load.rounds("entries", n ->
                sent.add(r.xadd(key, XAddParams.xAddParams(), Map.of("n", text(n))).toString()));
            hasEnded.set(true);
        };
        Load.Work tail = () -> {
            StreamEntryID last = new StreamEntryID("0-0");
            while (!hasEnded.get() || seen.size() < sent.size()) {
                for (StreamEntry entry : entries(r.xread(
                        XReadParams.xReadParams().block(100), Map.of(key, last)))) {
                    last = entry.getID();
                    seen.add(last.toString());
                    same(entry.getFields(), Map.of("n", text(seen.size())), "XREAD");
                }
            }
        };
        List<Load.Work> consumers = new ArrayList<>();
        for (String name : List.of("a", "b")) {
            consumers.add(() -> {
                while (!hasEnded.get() || taken.size() < sent.size()) {
                    for (StreamEntry entry : entries(r.xreadGroup("group", name,
                            XReadGroupParams.xReadGroupParams().count(5).block(100),
                            Map.of(key, StreamEntryID.XREADGROUP_UNDELIVERED_ENTRY)))) {
                        same(r.xack(key, "group", entry.getID()), 1L, "XACK");
                        taken.merge(entry.getID().toString(), 1, Integer::sum);
                        load.count("streams");
                    }
                }
            });
        }
        load.together(produce, tail, consumers.get(0), consumers.get(1));
        same(seen, sent, "entries read");
        for (String id : sent) same(taken.get(id), 1, "times taken: " + id);
        same(r.xpending(key, "group").getTotal(), 0L, "XPENDING");
    }

    private static List<StreamEntry> entries(List<Map.Entry<String, List<StreamEntry>>> reply) {
        return reply == null || reply.isEmpty() ? List.of() : reply.get(0).getValue();
    }

    private void pubsub() throws Exception {
        String base = load.key("channel");
        CountDownLatch listening = new CountDownLatch(3);
        Map<String, Long> last = new HashMap<>();
        JedisPubSub subscriber = new JedisPubSub() {
            private int ends;

            private void heard(String where, String message) {
                if (message.equals("end")) {
                    if (++ends == 4) {
                        unsubscribe();
                        punsubscribe();
                    }
                    return;
                }
                same(message, text(last.merge(where, 1L, Long::sum)), where);
                load.count("pubsub");
            }

            @Override
            public void onMessage(String channel, String message) {
                heard(channel, message);
            }

            @Override
            public void onPMessage(String pattern, String channel, String message) {
                heard(pattern + " " + channel, message);
            }

            @Override
            public void onSubscribe(String channel, int count) {
                if (listening.getCount() == 3) psubscribe(base + ":*");
                listening.countDown();
            }

            @Override
            public void onPSubscribe(String pattern, int count) {
                listening.countDown();
            }
        };
        Load.Work listen = () -> {
            try (Jedis own = connect(0)) {
                own.subscribe(subscriber, base + ":a", base + ":b");
            }
        };
        load.together(listen, publisher(base + ":a", listening), publisher(base + ":b", listening));
    }

    private Load.Work publisher(String channel, CountDownLatch listening) {
        return () -> {
            listening.await();
            load.rounds("messages", n -> same(r.publish(channel, text(n)), 2L, "PUBLISH"));
            r.publish(channel, "end");
        };
    }

    private void scripts() throws Exception {
        String key = load.key("scripted");
        String add = "redis.call('INCRBY', KEYS[1], ARGV[1]) return {redis.call('GET', KEYS[1])}";
        String loaded = r.scriptLoad("return redis.call('RPUSH', KEYS[1], '" + load.name + "')", key);
        load.rounds("scripts", n -> {
            same(r.eval(add, 1, key, "2"), List.of(text(2L * n)), "EVAL");
            // Loaded once, before the first flip.
            same(r.evalsha(loaded, 1, key + ":list"), (long) n, "EVALSHA");
        });
    }

    private void locks() throws Exception {
        String key = load.key("locked");
        String release =
            "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";
        AtomicInteger added = new AtomicInteger();
        List<Load.Work> workers = new ArrayList<>();
        for (String me : List.of("a", "b", "c")) {
            workers.add(() -> load.rounds("locks", n -> {
                while (r.set(key + ":lock", me, new SetParams().nx().px(60_000)) == null) {
                    Thread.sleep(5);
                }
                String was = r.get(key);
                r.set(key, text(was == null ? 1 : Long.parseLong(was) + 1));
                same(r.eval(release, 1, key + ":lock", me), 1L, "the lock is let go");
                added.incrementAndGet();
            }));
        }
        load.together(workers.toArray(new Load.Work[0]));
        same(r.get(key), text(added.get()), "the locked counter");
    }

    private void cache() throws Exception {
        String key = load.key("cached");
        // It asks for Redis 7.4, but all it uses is there since 6.0.
        Cache everywhere = new DefaultCache(100) {
            @Override
            public boolean compatibilityMode() {
                return true;
            }
        };
        try (RedisClient cached = RedisClient.builder().hostAndPort("127.0.0.1", load.port)
                .clientConfig(config(0)).cache(everywhere).build()) {
            load.rounds("cache", n -> {
                same(r.set(key, text(n)), "OK", "SET");
                long ends = System.nanoTime() + 10_000_000_000L;
                for (String value; !text(n).equals(value = cached.get(key)); Thread.sleep(1)) {
                    boolean isLast = value == null || value.equals(text(n - 1));
                    same(isLast, true, "GET " + value + " of the cache at " + n);
                    same(System.nanoTime() < ends, true, "the cache no longer has " + value);
                }
                same(cached.get(key), text(n), "GET of the cache");
            });
            same(everywhere.getStats().getHitCount() > 0, true, "the cache is used");
        }
    }

    public static void main(String[] arguments) throws Exception {
        JedisProgram own = new JedisProgram(new Load(arguments));
        Map<String, Load.Work> features = new LinkedHashMap<>();
        features.put("strings", own::strings);
        features.put("collections", own::collections);
        features.put("pipelines", own::pipelines);
        features.put("transactions", own::transactions);
        features.put("watch", own::watch);
        features.put("scan", own::scan);
        features.put("expiry", own::expiry);
        features.put("databases", own::databases);
        features.put("identity", own::identity);
        features.put("inspection", own::inspection);
        features.put("queue", own::queue);
        features.put("streams", own::streams);
        features.put("pubsub", own::pubsub);
        features.put("scripts", own::scripts);
        features.put("locks", own::locks);
        features.put("cache", own::cache);
        own.load.run(features);
    }
}
