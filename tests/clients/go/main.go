// go-redis: goroutines that share a pool. The first argument is the protocol, 2 or 3.
package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

var (
	ctx = context.Background()
	l   = newLoad()
	r   = connect()
	str = strconv.Itoa
)

// Nothing is tried again.
func connect(change ...func(*redis.Options)) *redis.Client {
	options := &redis.Options{
		Addr:          fmt.Sprintf("127.0.0.1:%d", l.port),
		ClientName:    l.name,
		Protocol:      l.protocol,
		MaxRetries:    -1,
		DialerRetries: 1,
		ReadTimeout:   30 * time.Second,
		PoolSize:      30,
		PoolTimeout:   30 * time.Second,
	}
	for _, each := range change {
		each(options)
	}
	return redis.NewClient(options)
}

func inDb(db int) func(*redis.Options) {
	return func(options *redis.Options) { options.DB = db }
}

func isNil(what string, err error) {
	if !errors.Is(err, redis.Nil) {
		panic(wrong(fmt.Sprintf("%s: %v instead of nil", what, err)))
	}
}

func strs() {
	key := l.key("string")
	l.rounds("strings", func(n int) {
		value := fmt.Sprintf("value %d", n)
		is("SET", "OK")(r.Set(ctx, key, value, 0).Result())
		is("APPEND", int64(len(value)+1))(r.Append(ctx, key, "!").Result())
		is("GET", value+"!")(r.Get(ctx, key).Result())
		is("INCRBY", int64(3*n))(r.IncrBy(ctx, key+":n", 3).Result())
		is("INCRBYFLOAT", float64(n)/2)(r.IncrByFloat(ctx, key+":f", 0.5).Result())
		isNil("SET NX", r.SetArgs(ctx, key, "no", redis.SetArgs{Mode: "NX"}).Err())
		is("MSET", "OK")(r.MSet(ctx, key+":a", n, key+":b", -n).Result())
		replies := []any{str(n), nil, str(-n)}
		is("MGET", replies)(r.MGet(ctx, key+":a", key+":none", key+":b").Result())
		is("GETDEL", value+"!")(r.GetDel(ctx, key).Result())
		isNil("GET of nothing", r.Get(ctx, key).Err())
	})
}

func collections() {
	hash, set, zset, list := l.key("hash"), l.key("set"), l.key("zset"), l.key("list")
	model := map[string]string{}
	l.rounds("collections", func(n int) {
		field := "f" + str(n%5)
		model[field] = str(n)
		ok("HSET", r.HSet(ctx, hash, field, n).Err())
		is("HGETALL", model)(r.HGetAll(ctx, hash).Result())
		is("SADD", int64(1))(r.SAdd(ctx, set, n).Result())
		is("SISMEMBER", true)(r.SIsMember(ctx, set, n).Result())
		is("SCARD", int64(n))(r.SCard(ctx, set).Result())
		top := []redis.Z{{Score: float64(n), Member: "m" + str(n)}}
		is("ZADD", int64(1))(r.ZAdd(ctx, zset, top...).Result())
		is("ZRANGE", top)(r.ZRangeWithScores(ctx, zset, -1, -1).Result())
		if n%2 == 0 {
			is("ZPOPMAX", top)(r.ZPopMax(ctx, zset).Result())
		}
		is("ZCARD", int64((n+1)/2))(r.ZCard(ctx, zset).Result())
		is("RPUSH", int64(min(n, 11)))(r.RPush(ctx, list, n).Result())
		is("LTRIM", "OK")(r.LTrim(ctx, list, -10, -1).Result())
		is("LINDEX", str(n))(r.LIndex(ctx, list, -1).Result())
	})
}

func pipelines() {
	together(
		func() {
			l.rounds("pipelines", func(n int) {
				replies, err := r.Pipelined(ctx, func(pipe redis.Pipeliner) error {
					for i := range 20 {
						pipe.Incr(ctx, l.key("piped", i))
						pipe.Get(ctx, l.key("piped", i))
					}
					return nil
				})
				ok("pipeline", err)
				for i := 0; i < len(replies); i += 2 {
					same(replies[i].(*redis.IntCmd).Val(), int64(n), "INCR in a pipeline")
					same(replies[i+1].(*redis.StringCmd).Val(), str(n), "GET in a pipeline")
				}
			})
		},
		func() {
			auto, err := r.AutoPipeline()
			ok("AutoPipeline", err)
			var workers []func()
			for i := range 5 {
				workers = append(workers, func() {
					l.rounds("auto-pipelines", func(n int) {
						is("HINCRBY", int64(n))(auto.HIncrBy(ctx, l.key("auto"), str(i), 1).Result())
						is("HGET", str(n))(auto.HGet(ctx, l.key("auto"), str(i)).Result())
					})
				})
			}
			together(workers...)
		},
	)
}

func transactions() {
	key := l.key("block")
	l.rounds("transactions", func(n int) {
		var incr, added *redis.IntCmd
		var value *redis.StringCmd
		_, err := r.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			incr = pipe.Incr(ctx, key)
			added = pipe.SAdd(ctx, key+":s", n)
			value = pipe.Get(ctx, key)
			return nil
		})
		ok("EXEC", err)
		same([]int64{incr.Val(), added.Val()}, []int64{int64(n), 1}, "EXEC")
		same(value.Val(), str(n), "GET in EXEC")
	})
}

func watch() {
	key := l.key("watched")
	var mutex sync.Mutex
	added := 0
	add := func(tx *redis.Tx) error {
		was, err := tx.Get(ctx, key).Int()
		if err != nil && err != redis.Nil {
			return err
		}
		_, err = tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			return pipe.Set(ctx, key, was+1, 0).Err()
		})
		return err
	}
	worker := func() {
		l.rounds("watch", func(int) {
			for {
				err := r.Watch(ctx, add, key)
				if err == nil {
					break
				}
				if err != redis.TxFailedErr {
					panic(err)
				}
			}
			mutex.Lock()
			defer mutex.Unlock()
			added++
		})
	}
	together(worker, worker, worker)
	is("the watched counter", str(added))(r.Get(ctx, key).Result())
}

func scan() {
	keys, fields := map[string]bool{}, map[string]string{}
	for i := range 150 {
		keys[l.key("scanned", i)] = true
		ok("SET", r.Set(ctx, l.key("scanned", i), i, 0).Err())
	}
	for i := range 600 {
		fields["f"+str(i)] = str(i)
	}
	ok("HSET", r.HSet(ctx, l.key("many"), fields).Err())
	l.rounds("scan", func(int) {
		found := map[string]bool{}
		all := r.Scan(ctx, 0, l.key("scanned", "*"), 200).Iterator()
		for all.Next(ctx) {
			found[all.Val()] = true
		}
		ok("SCAN", all.Err())
		same(found, keys, "SCAN")
		read := map[string]string{}
		inside := r.HScan(ctx, l.key("many"), 0, "", 100).Iterator()
		for inside.Next(ctx) {
			field := inside.Val()
			inside.Next(ctx)
			read[field] = inside.Val()
		}
		ok("HSCAN", inside.Err())
		same(read, fields, "HSCAN")
	})
}

func expiry() {
	key := l.key("expiring")
	l.rounds("expiry", func(n int) {
		is("SET EX", "OK")(r.Set(ctx, key, n, 100*time.Second).Result())
		ttl, err := r.TTL(ctx, key).Result()
		ok("TTL", err)
		same(ttl >= 98*time.Second && ttl <= 100*time.Second, true, "TTL")
		is("PERSIST", true)(r.Persist(ctx, key).Result())
		is("PTTL", time.Duration(-1))(r.PTTL(ctx, key).Result())
		if n%10 == 0 {
			ends := time.Now().Add(10 * time.Second)
			is("SET PX", "OK")(r.Set(ctx, key+":soon", n, 40*time.Millisecond).Result())
			for {
				value, err := r.Get(ctx, key+":soon").Result()
				if err == redis.Nil {
					break
				}
				ok("GET", err)
				same(value, str(n), "GET of a key that will expire")
				same(time.Now().Before(ends), true, "the key has expired")
			}
		}
	})
}

func databases() {
	key := l.key("db")
	one, two := connect(inDb(1)), connect(inDb(2))
	l.rounds("databases", func(n int) {
		is("SET in 1", "OK")(one.Set(ctx, key, n, 0).Result())
		is("SET in 2", "OK")(two.Set(ctx, key, -n, 0).Result())
		is("GET in 1", str(n))(one.Get(ctx, key).Result())
		is("GET in 2", str(-n))(two.Get(ctx, key).Result())
		isNil("GET in 0", r.Get(ctx, key).Err())
		is("SET of what moves", "OK")(one.Set(ctx, key+":moved", n, 0).Result())
		is("MOVE", true)(one.Move(ctx, key+":moved", 2).Result())
		is("GETDEL of what moved", str(n))(two.GetDel(ctx, key+":moved").Result())
	})
}

func identity() {
	own := r.Conn()
	me, err := own.ClientID(ctx).Result()
	ok("CLIENT ID", err)
	l.rounds("identity", func(n int) {
		is("CLIENT ID", me)(own.ClientID(ctx).Result())
		is("CLIENT GETNAME", l.name)(own.ClientGetName(ctx).Result())
		is("ECHO", str(n))(own.Echo(ctx, n).Result())
		is("PING", "PONG")(own.Ping(ctx).Result())
		same(r.PoolStats().StaleConns, uint32(0), "connections that were lost")
	})
}

func inspection() {
	own := r.Conn()
	me, err := own.ClientID(ctx).Result()
	ok("CLIENT ID", err)
	l.rounds("inspection", func(n int) {
		info, err := own.ClientInfo(ctx).Result()
		ok("CLIENT INFO", err)
		same([]any{info.ID, info.Name}, []any{me, l.name}, "CLIENT INFO")
		if n%10 != 1 {
			return // It is long, for all of them are in it.
		}
		list, err := own.ClientList(ctx).Result()
		ok("CLIENT LIST", err)
		same(strings.Count("\n"+list, fmt.Sprintf("\nid=%d ", me)), 1, "CLIENT LIST")
	})
}

func queue() {
	jobs, doing := l.key("jobs"), l.key("doing")
	var mutex sync.Mutex
	taken := map[string]int{}
	sent := 0
	produce := func() {
		sent = l.rounds("jobs", func(n int) {
			ok("LPUSH", r.LPush(ctx, jobs, 2*n-1, 2*n).Err())
		})
		ok("LPUSH", r.LPush(ctx, jobs, "end", "end").Err())
	}
	consume := func(take func() string) func() {
		return func() {
			last := 0
			for job := take(); job != "end"; job = take() {
				number, err := strconv.Atoi(job)
				ok("a job", err)
				same(number > last, true, fmt.Sprintf("%d behind %d", number, last))
				last = number
				mutex.Lock()
				taken[job]++
				mutex.Unlock()
				l.count("queue")
			}
		}
	}
	pop := func() string {
		reply, err := r.BRPop(ctx, 0, doing+":none", jobs).Result()
		ok("BRPOP", err)
		return reply[1]
	}
	move := func() string {
		job, err := r.BLMove(ctx, jobs, doing, "RIGHT", "LEFT", 0).Result()
		ok("BLMOVE", err)
		is("LREM", int64(1))(r.LRem(ctx, doing, 1, job).Result())
		return job
	}
	none := func() {
		for !l.isStopped() {
			isNil("BLPOP of nothing", r.BLPop(ctx, time.Second, l.key("nothing")).Err())
		}
	}
	together(produce, consume(pop), consume(move), none)
	for n := 1; n <= 2*sent; n++ {
		same(taken[str(n)], 1, fmt.Sprintf("job %d: times done", n))
	}
	same(len(taken), 2*sent, "jobs done")
	is("jobs that are left", int64(0))(r.Exists(ctx, jobs, doing).Result())
}

func streams() {
	key := l.key("stream")
	is("XGROUP", "OK")(r.XGroupCreateMkStream(ctx, key, "group", "0").Result())
	var mutex sync.Mutex
	var sent, seen []string
	taken, ended := map[string]int{}, false
	isOver := func(done func() int) bool {
		mutex.Lock()
		defer mutex.Unlock()
		return ended && done() >= len(sent)
	}
	produce := func() {
		l.rounds("entries", func(n int) {
			id, err := r.XAdd(ctx, &redis.XAddArgs{Stream: key, Values: []any{"n", n}}).Result()
			ok("XADD", err)
			mutex.Lock()
			defer mutex.Unlock()
			sent = append(sent, id)
		})
		mutex.Lock()
		defer mutex.Unlock()
		ended = true
	}
	entries := func(streams []redis.XStream, err error) []redis.XMessage {
		if err == redis.Nil {
			return nil
		}
		ok("XREAD", err)
		return streams[0].Messages
	}
	consume := func(name string) func() {
		return func() {
			for !isOver(func() int { return len(taken) }) {
				for _, entry := range entries(r.XReadGroup(ctx, &redis.XReadGroupArgs{
					Group: "group", Consumer: name, Streams: []string{key, ">"},
					Count: 5, Block: 100 * time.Millisecond,
				}).Result()) {
					is("XACK", int64(1))(r.XAck(ctx, key, "group", entry.ID).Result())
					mutex.Lock()
					taken[entry.ID]++
					mutex.Unlock()
					l.count("streams")
				}
			}
		}
	}
	tail := func() {
		last := "0"
		for !isOver(func() int { return len(seen) }) {
			for _, entry := range entries(r.XRead(ctx, &redis.XReadArgs{
				Streams: []string{key}, ID: last, Block: 100 * time.Millisecond,
			}).Result()) {
				seen, last = append(seen, entry.ID), entry.ID
				same(entry.Values, map[string]any{"n": str(len(seen))}, "XREAD")
			}
		}
	}
	together(produce, consume("a"), consume("b"), tail)
	for _, id := range sent {
		same(taken[id], 1, "times taken: "+id)
	}
	same(seen, sent, "entries read")
	pending, err := r.XPending(ctx, key, "group").Result()
	ok("XPENDING", err)
	same(pending.Count, int64(0), "XPENDING")
}

func pubsub() {
	base := l.key("channel")
	subscriber := r.Subscribe(ctx, base+":a", base+":b")
	ok("PSUBSCRIBE", subscriber.PSubscribe(ctx, base+":*"))
	for range 3 {
		_, err := subscriber.Receive(ctx)
		ok("SUBSCRIBE", err)
	}
	listen := func() {
		last := map[string]int{}
		for ends := 0; ends < 4; {
			message, err := subscriber.ReceiveMessage(ctx)
			ok("a message", err)
			if message.Payload == "end" {
				ends++
				continue
			}
			where := message.Pattern + " " + message.Channel
			last[where]++
			same(message.Payload, str(last[where]), where)
			l.count("pubsub")
		}
	}
	publish := func(channel string) func() {
		return func() {
			l.rounds("messages", func(n int) {
				is("PUBLISH", int64(2))(r.Publish(ctx, channel, n).Result())
			})
			ok("PUBLISH", r.Publish(ctx, channel, "end").Err())
		}
	}
	together(listen, publish(base+":a"), publish(base+":b"))
}

func scripts() {
	key := l.key("scripted")
	add := redis.NewScript(
		"redis.call('INCRBY', KEYS[1], ARGV[1]) return {redis.call('GET', KEYS[1]), KEYS[1]}")
	loaded, err := r.ScriptLoad(ctx, "return redis.call('RPUSH', KEYS[1], '"+l.name+"')").Result()
	ok("SCRIPT LOAD", err)
	l.rounds("scripts", func(n int) {
		is("a script", []any{str(2 * n), key})(add.Run(ctx, r, []string{key}, 2).Slice())
		// Loaded once, before the first flip.
		is("EVALSHA", any(int64(n)))(r.EvalSha(ctx, loaded, []string{key + ":list"}).Result())
	})
}

var release = redis.NewScript(
	"if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0")

func locks() {
	key := l.key("locked")
	held := redis.SetArgs{Mode: "NX", TTL: time.Minute}
	var mutex sync.Mutex
	added := 0
	worker := func(me string) func() {
		return func() {
			l.rounds("locks", func(int) {
				for {
					err := r.SetArgs(ctx, key+":lock", me, held).Err()
					if err == nil {
						break
					}
					isNil("SET NX", err)
					time.Sleep(5 * time.Millisecond)
				}
				was, err := r.Get(ctx, key).Int()
				if err != redis.Nil {
					ok("GET", err)
				}
				is("SET", "OK")(r.Set(ctx, key, was+1, 0).Result())
				released, err := release.Run(ctx, r, []string{key + ":lock"}, me).Int()
				is("the lock is let go", 1)(released, err)
				mutex.Lock()
				defer mutex.Unlock()
				added++
			})
		}
	}
	together(worker("a"), worker("b"), worker("c"))
	is("the locked counter", str(added))(r.Get(ctx, key).Result())
}

func monitor() {
	lines := make(chan string, 10000)
	// A monitor of this client is deaf behind its first read timeout.
	watching := connect(func(options *redis.Options) { options.ReadTimeout = -1 })
	watching.Monitor(ctx, lines).Start()
	// It does not wait for the answer, and what comes before that is not monitored.
	same(<-lines, "OK", "MONITOR")
	seen := make(chan int, 1)
	go func() {
		n := 0
		for line := range lines {
			if strings.HasSuffix(line, `"`+l.key("monitored", "end")+`"`) {
				seen <- n
				return
			}
			if strings.Contains(line, `"`+l.key("monitored")) {
				n++
				if !strings.HasSuffix(line, `"`+l.key("monitored", n)+`"`) {
					seen <- -n
					return
				}
				l.count("monitor")
			}
		}
	}()
	said := l.rounds("echoes", func(n int) {
		ok("ECHO", r.Echo(ctx, l.key("monitored", n)).Err())
	})
	ok("ECHO", r.Echo(ctx, l.key("monitored", "end")).Err())
	same(<-seen, said, "commands that MONITOR told")
}

func cache() {
	key := l.key("cached")
	cached := connect(func(options *redis.Options) {
		options.ClientSideCacheConfig = &redis.ClientSideCacheConfig{MaxEntries: 100}
	})
	l.rounds("cache", func(n int) {
		is("SET", "OK")(r.Set(ctx, key, n, 0).Result())
		for ends := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			value, err := cached.Get(ctx, key).Result()
			if err != redis.Nil {
				ok("GET of the cache", err)
			}
			if value == str(n) {
				break
			}
			same(value == "" || value == str(n-1), true, "GET of the cache: "+value)
			same(time.Now().Before(ends), true, "the cache no longer has "+value)
		}
		is("GET of the cache", str(n))(cached.Get(ctx, key).Result())
		is("GET of the cache", str(n))(cached.Get(ctx, key).Result())
	})
	same(cached.CSCStats().Hits > 0, true, "the cache is used")
}

func main() {
	l.run(map[string]func(){
		"strings": strs, "collections": collections, "pipelines": pipelines,
		"transactions": transactions, "watch": watch, "scan": scan, "expiry": expiry,
		"databases": databases, "identity": identity, "inspection": inspection,
		"queue": queue, "streams": streams, "pubsub": pubsub, "scripts": scripts,
		"locks": locks, "monitor": monitor, "cache": cache,
	})
}
