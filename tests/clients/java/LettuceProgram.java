import static java.util.stream.Collectors.toList;

import io.lettuce.core.BitFieldArgs;
import io.lettuce.core.ClientOptions;
import io.lettuce.core.Consumer;
import io.lettuce.core.CopyArgs;
import io.lettuce.core.KeyScanCursor;
import io.lettuce.core.KeyValue;
import io.lettuce.core.LMoveArgs;
import io.lettuce.core.MapScanCursor;
import io.lettuce.core.RedisClient;
import io.lettuce.core.RedisFuture;
import io.lettuce.core.RedisURI;
import io.lettuce.core.ScanArgs;
import io.lettuce.core.ScanCursor;
import io.lettuce.core.ScoredValue;
import io.lettuce.core.ScriptOutputType;
import io.lettuce.core.SetArgs;
import io.lettuce.core.StreamMessage;
import io.lettuce.core.TrackingArgs;
import io.lettuce.core.XGroupCreateArgs;
import io.lettuce.core.XReadArgs;
import io.lettuce.core.api.StatefulRedisConnection;
import io.lettuce.core.api.async.RedisAsyncCommands;
import io.lettuce.core.api.sync.RedisCommands;
import io.lettuce.core.protocol.ProtocolVersion;
import io.lettuce.core.pubsub.RedisPubSubAdapter;
import io.lettuce.core.pubsub.StatefulRedisPubSubConnection;
import io.lettuce.core.support.caching.CacheAccessor;
import io.lettuce.core.support.caching.CacheFrontend;
import io.lettuce.core.support.caching.ClientSideCaching;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;

/** Lettuce: all threads on one connection, and one of its own for what blocks or has a state. */
final class LettuceProgram {
    private final Load load;
    private final RedisClient client = RedisClient.create();
    private final RedisCommands<String, String> r;

    private LettuceProgram(Load load) {
        this.load = load;
        // No connection is made anew: a lost one fails all that is asked of it.
        client.setOptions(ClientOptions.builder()
            .autoReconnect(false)
            .protocolVersion(load.protocol == 3 ? ProtocolVersion.RESP3 : ProtocolVersion.RESP2)
            .build());
        r = connect(0);
    }

    private RedisURI address(int db) {
        return RedisURI.builder().withHost("127.0.0.1").withPort(load.port).withDatabase(db)
            .withClientName(load.name).withTimeout(Duration.ofSeconds(30)).build();
    }

    private RedisCommands<String, String> connect(int db) {
        return client.connect(address(db)).sync();
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
            same(r.incrby(key + ":n", 3), 3L * n, "INCRBY");
            same(r.incrbyfloat(key + ":f", 0.5), n / 2.0, "INCRBYFLOAT");
            same(r.set(key, "no", SetArgs.Builder.nx()), null, "SET NX");
            same(r.mset(Map.of(key + ":a", text(n), key + ":b", text(-n))), "OK", "MSET");
            List<String> read = r.mget(key + ":a", key + ":none", key + ":b").stream()
                .map(each -> each.getValueOrElse(null)).collect(toList());
            same(read, java.util.Arrays.asList(text(n), null, text(-n)), "MGET");
            BitFieldArgs add = BitFieldArgs.Builder.incrBy(BitFieldArgs.unsigned(32), 0, 2);
            same(r.bitfield(key + ":bits", add), List.of(2L * n), "BITFIELD");
            same(r.getdel(key), value + "!", "GETDEL");
            same(r.exists(key), 0L, "EXISTS");
        });
    }

    private void collections() throws Exception {
        String hash = load.key("hash"), set = load.key("set");
        String zset = load.key("zset"), list = load.key("list");
        Map<String, String> model = new HashMap<>();
        load.rounds("collections", n -> {
            model.put("f" + n % 5, text(n));
            r.hset(hash, "f" + n % 5, text(n));
            same(r.hgetall(hash), model, "HGETALL");
            same(r.sadd(set, text(n)), 1L, "SADD");
            same(r.sismember(set, text(n)), true, "SISMEMBER");
            ScoredValue<String> top = ScoredValue.just(n, "m" + n);
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
        StatefulRedisConnection<String, String> piped = client.connect(address(0));
        piped.setAutoFlushCommands(false);
        RedisAsyncCommands<String, String> own = piped.async();
        load.rounds("pipelines", n -> {
            List<RedisFuture<?>> asked = new ArrayList<>();
            for (int i = 0; i < 20; i++) {
                asked.add(own.incr(load.key("piped", i)));
                asked.add(own.get(load.key("piped", i)));
            }
            piped.flushCommands();
            for (int i = 0; i < asked.size(); i += 2) {
                same(asked.get(i).get(), (long) n, "INCR in a pipeline");
                same(asked.get(i + 1).get(), text(n), "GET in a pipeline");
            }
        });
    }

    private void transactions() throws Exception {
        String key = load.key("block");
        RedisCommands<String, String> own = connect(0);
        load.rounds("transactions", n -> {
            same(own.multi(), "OK", "MULTI");
            own.incr(key);
            own.sadd(key + ":s", text(n));
            own.get(key);
            same(own.exec().stream().collect(toList()), List.of((long) n, 1L, text(n)), "EXEC");
            same(own.multi(), "OK", "MULTI");
            own.incr(key);
            same(own.discard(), "OK", "DISCARD");
        });
    }

    private void watch() throws Exception {
        String key = load.key("watched");
        AtomicInteger added = new AtomicInteger();
        Load.Work worker = () -> {
            RedisCommands<String, String> own = connect(0);
            load.rounds("watch", n -> {
                do {
                    own.watch(key);
                    String was = own.get(key);
                    own.multi();
                    own.set(key, text(was == null ? 1 : Long.parseLong(was) + 1));
                } while (own.exec().wasDiscarded());
                added.incrementAndGet();
            });
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
            ScanArgs some = ScanArgs.Builder.matches(load.key("scanned", "*")).limit(200);
            KeyScanCursor<String> keysAt = r.scan(some);
            found.addAll(keysAt.getKeys());
            while (!keysAt.isFinished()) {
                keysAt = r.scan(keysAt, some);
                found.addAll(keysAt.getKeys());
            }
            same(found, keys, "SCAN");
            Map<String, String> read = new HashMap<>();
            ScanCursor at = ScanCursor.INITIAL;
            do {
                MapScanCursor<String, String> part =
                    r.hscan(load.key("many"), at, ScanArgs.Builder.limit(100));
                read.putAll(part.getMap());
                at = part;
            } while (!at.isFinished());
            same(read, fields, "HSCAN");
        });
    }

    private void expiry() throws Exception {
        String key = load.key("expiring");
        load.rounds("expiry", n -> {
            same(r.setex(key, 100, text(n)), "OK", "SETEX");
            long ttl = r.ttl(key);
            same(ttl >= 98 && ttl <= 100, true, "TTL " + ttl);
            same(r.persist(key), true, "PERSIST");
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
        RedisCommands<String, String> one = connect(1), two = connect(2), rover = connect(0);
        load.rounds("databases", n -> {
            same(one.set(key, text(n)), "OK", "SET in 1");
            same(two.set(key, text(-n)), "OK", "SET in 2");
            same(r.get(key), null, "GET in 0");
            same(rover.select(1), "OK", "SELECT");
            same(rover.get(key), text(n), "GET in 1");
            same(rover.select(2), "OK", "SELECT");
            same(rover.get(key), text(-n), "GET in 2");
            CopyArgs copy = CopyArgs.Builder.destinationDb(2).replace(true);
            same(one.copy(key, key + ":copy", copy), true, "COPY DB");
            same(two.getdel(key + ":copy"), text(n), "GETDEL of the copy");
        });
    }

    private void identity() throws Exception {
        long me = r.clientId();
        load.rounds("identity", n -> {
            same(r.clientId(), me, "CLIENT ID");
            same(r.clientGetname(), load.name, "CLIENT GETNAME");
            same(r.echo(text(n)), text(n), "ECHO");
            same(r.ping(), "PONG", "PING");
        });
    }

    private void inspection() throws Exception {
        long me = r.clientId();
        load.rounds("inspection", n -> {
            String info = r.clientInfo();
            same(info.startsWith("id=" + me + " "), true, "CLIENT INFO: " + info);
            same(info.contains(" name=" + load.name + " "), true, "CLIENT INFO: " + info);
            if (n % 10 != 1) return; // It is long, for all of them are in it.
            long listed = r.clientList().lines()
                .filter(each -> each.startsWith("id=" + me + " ")).count();
            same(listed, 1L, "CLIENT LIST");
        });
    }

    private interface Take {
        String from(RedisCommands<String, String> own);
    }

    private void queue() throws Exception {
        String jobs = load.key("jobs"), doing = load.key("doing");
        Map<String, Integer> taken = new ConcurrentHashMap<>();
        AtomicInteger sent = new AtomicInteger();
        Load.Work produce = () -> {
            sent.set(load.rounds("jobs", n -> r.lpush(jobs, text(2L * n - 1), text(2L * n))));
            r.lpush(jobs, "end", "end");
        };
        Take pop = own -> own.brpop(0, doing + ":none", jobs).getValue();
        Take move = own -> {
            String job = own.blmove(jobs, doing, LMoveArgs.Builder.rightLeft(), 0);
            same(own.lrem(doing, 1, job), 1L, "LREM");
            return job;
        };
        Load.Work none = () -> {
            RedisCommands<String, String> own = connect(0);
            while (!load.isStopped()) {
                KeyValue<String, String> nothing = own.blpop(0.1, load.key("nothing"));
                same(nothing, null, "BLPOP of nothing");
            }
        };
        load.together(produce, consumer(pop, taken), consumer(move, taken), none);
        for (int n = 1; n <= 2 * sent.get(); n++) same(taken.get(text(n)), 1, "job " + n);
        same(taken.size(), 2 * sent.get(), "jobs done");
        same(r.exists(jobs, doing), 0L, "jobs that are left");
    }

    private Load.Work consumer(Take take, Map<String, Integer> taken) {
        return () -> {
            RedisCommands<String, String> own = connect(0);
            long last = 0;
            for (String job; !(job = take.from(own)).equals("end"); ) {
                same(Long.parseLong(job) > last, true, job + " behind " + last);
                last = Long.parseLong(job);
                taken.merge(job, 1, Integer::sum);
                load.count("queue");
            }
        };
    }

    private void streams() throws Exception {
        String key = load.key("stream");
        r.xgroupCreate(XReadArgs.StreamOffset.from(key, "0"), "group",
            XGroupCreateArgs.Builder.mkstream());
        List<String> sent = Collections.synchronizedList(new ArrayList<>());
        List<String> seen = Collections.synchronizedList(new ArrayList<>());
        Map<String, Integer> taken = new ConcurrentHashMap<>();
        AtomicBoolean hasEnded = new AtomicBoolean();
        Load.Work produce = () -> {
            load.rounds("entries", n -> sent.add(r.xadd(key, Map.of("n", text(n)))));
            hasEnded.set(true);
        };
        Load.Work tail = () -> {
            RedisCommands<String, String> own = connect(0);
            String last = "0";
            while (!hasEnded.get() || seen.size() < sent.size()) {
                for (StreamMessage<String, String> entry : own.xread(
                        XReadArgs.Builder.block(100), XReadArgs.StreamOffset.from(key, last))) {
                    last = entry.getId();
                    seen.add(last);
                    same(entry.getBody(), Map.of("n", text(seen.size())), "XREAD");
                }
            }
        };
        List<Load.Work> consumers = new ArrayList<>();
        for (String name : List.of("a", "b")) {
            consumers.add(() -> {
                RedisCommands<String, String> own = connect(0);
                while (!hasEnded.get() || taken.size() < sent.size()) {
                    for (StreamMessage<String, String> entry : own.xreadgroup(
                            Consumer.from("group", name), XReadArgs.Builder.count(5).block(100),
                            XReadArgs.StreamOffset.lastConsumed(key))) {
                        same(r.xack(key, "group", entry.getId()), 1L, "XACK");
                        taken.merge(entry.getId(), 1, Integer::sum);
                        load.count("streams");
                    }
                }
            });
        }
        load.together(produce, tail, consumers.get(0), consumers.get(1));
        same(seen, sent, "entries read");
        for (String id : sent) same(taken.get(id), 1, "times taken: " + id);
        same(r.xpending(key, "group").getCount(), 0L, "XPENDING");
    }

    private void pubsub() throws Exception {
        String base = load.key("channel");
        CompletableFuture<Void> finished = new CompletableFuture<>();
        Map<String, Long> last = new HashMap<>();
        StatefulRedisPubSubConnection<String, String> subscriber =
            client.connectPubSub(address(0));
        subscriber.addListener(new RedisPubSubAdapter<>() {
            private int ends;

            private void heard(String where, String message) {
                if (message.equals("end")) {
                    if (++ends == 4) finished.complete(null);
                } else if (message.equals(text(last.merge(where, 1L, Long::sum)))) {
                    load.count("pubsub");
                } else {
                    finished.completeExceptionally(
                        new Load.Wrong(where + ": " + message + ", not " + last.get(where)));
                }
            }

            @Override
            public void message(String channel, String message) {
                heard(channel, message);
            }

            @Override
            public void message(String pattern, String channel, String message) {
                heard(pattern + " " + channel, message);
            }
        });
        subscriber.sync().subscribe(base + ":a", base + ":b");
        subscriber.sync().psubscribe(base + ":*");
        List<Load.Work> publishers = new ArrayList<>();
        for (String channel : List.of(base + ":a", base + ":b")) {
            publishers.add(() -> {
                load.rounds("messages", n -> same(r.publish(channel, text(n)), 2L, "PUBLISH"));
                r.publish(channel, "end");
            });
        }
        load.together(() -> finished.get(), publishers.get(0), publishers.get(1));
    }

    private void scripts() throws Exception {
        String key = load.key("scripted");
        String add = "redis.call('INCRBY', KEYS[1], ARGV[1]) return {redis.call('GET', KEYS[1])}";
        String loaded = r.scriptLoad("return redis.call('RPUSH', KEYS[1], '" + load.name + "')");
        String[] keys = {key}, lists = {key + ":list"};
        load.rounds("scripts", n -> {
            Object sum = r.eval(add, ScriptOutputType.MULTI, keys, "2");
            same(sum, List.of(text(2L * n)), "EVAL");
            // Loaded once, before the first flip.
            Object length = r.evalsha(loaded, ScriptOutputType.INTEGER, lists);
            same(length, (long) n, "EVALSHA");
        });
    }

    private void locks() throws Exception {
        String key = load.key("locked");
        String release = "if redis.call('GET', KEYS[1]) == ARGV[1] "
            + "then return redis.call('DEL', KEYS[1]) end return 0";
        String[] keys = {key + ":lock"};
        AtomicInteger added = new AtomicInteger();
        List<Load.Work> workers = new ArrayList<>();
        for (String me : List.of("a", "b", "c")) {
            workers.add(() -> load.rounds("locks", n -> {
                while (r.set(key + ":lock", me, SetArgs.Builder.nx().px(60_000)) == null) {
                    Thread.sleep(5);
                }
                String was = r.get(key);
                r.set(key, text(was == null ? 1 : Long.parseLong(was) + 1));
                Object released = r.eval(release, ScriptOutputType.INTEGER, keys, me);
                same(released, 1L, "the lock is let go");
                added.incrementAndGet();
            }));
        }
        load.together(workers.toArray(new Load.Work[0]));
        same(r.get(key), text(added.get()), "the locked counter");
    }

    private void cache() throws Exception {
        String key = load.key("cached");
        Map<String, String> kept = new ConcurrentHashMap<>();
        StatefulRedisConnection<String, String> own = client.connect(address(0));
        CacheFrontend<String, String> cached =
            ClientSideCaching.enable(CacheAccessor.forMap(kept), own, TrackingArgs.Builder.enabled());
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
    }

    public static void main(String[] arguments) throws Exception {
        LettuceProgram own = new LettuceProgram(new Load(arguments));
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
