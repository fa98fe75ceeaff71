"""Write commands in every form, one per line: what is there before ``=>``, and the command.

Used against real servers: the command runs on a source, its effect on a target that holds the
same, and then both must hold the same again. ``{future}`` and ``{past}`` are Unix times in
seconds, ``{future_ms}`` and ``{past_ms}`` in ms. ``!`` in front: the effect is that the keys are
copied. A form that an engine does not know is skipped there.
"""

CASES = """
=> APPEND k v
SET k a => APPEND k v
SET k a PXAT {future_ms} => APPEND k v
=> INCR n
SET n 5 PXAT {future_ms} => INCR n
SET n 5 => INCRBY n 7
SET n 5 => DECR n
SET n 5 => DECRBY n 7
SET n 0.1 PXAT {future_ms} => INCRBYFLOAT n 0.2
=> INCRBYFLOAT n 3e5
SET n 10 => INCRBYFLOAT n -10
=> SET k v
SET k a PXAT {future_ms} => SET k v
RPUSH k a => SET k v
=> SET k v EX 100
=> SET k v PX 100500
=> SET k v EXAT {future}
=> SET k v PXAT {future_ms}
SET k a => SET k v PXAT {past_ms}
=> SET k v PXAT {past_ms}
SET k a PXAT {future_ms} => SET k v KEEPTTL
SET k a => SET k v NX
=> SET k v NX
=> SET k v NX EX 100
=> SET k v XX
SET k a => SET k v XX EX 100
SET k a => SET k v GET
=> SET k v GET
=> SET k v XX GET
SET k a => SET k v XX GET PX 100000
=> SET k v NX GET
SET k a => SET k v NX GET
SET k a => SET k v IFEQ a
SET k a => SET k v IFEQ b
=> SET k v IFEQ b
SET k a => SET k v IFEQ a GET EX 100
SET k a => SET k v IFEQ b GET
=> SETEX k 100 v
SET k a PXAT {future_ms} => PSETEX k 5000 v
=> SETNX k v
SET k a => SETNX k v
=> SETRANGE k 3 abc
SET k abcdef => SETRANGE k 3 xx
=> SETRANGE k 0 ""
=> SETBIT k 7 1
SET k a => SETBIT k 100 0
=> BITFIELD k SET u8 0 255 OVERFLOW SAT INCRBY u8 0 10
SET k a => BITFIELD k OVERFLOW FAIL INCRBY u2 0 3
SET a abc ; SET b xyz => BITOP AND d a b
SET a abc => BITOP NOT d a
SET d old => BITOP OR d nokey
=> MSET a 1 b 2 a 3
SET a x PXAT {future_ms} => MSET a 1 b 2
=> MSETNX a 1 b 2
SET b x => MSETNX a 1 b 2
=> MSETEX 2 a 1 b 2
=> MSETEX 2 a 1 b 2 EX 100
SET a x PXAT {future_ms} => MSETEX 2 a 1 b 2 KEEPTTL
=> MSETEX 2 a 1 b 2 NX PXAT {future_ms}
SET b x => MSETEX 2 a 1 b 2 NX
SET b x => MSETEX 2 a 1 b 2 XX
SET a x ; SET b x => MSETEX 2 a 1 b 2 XX PX 50000
SET k v => GETDEL k
=> GETDEL k
SET k v PXAT {future_ms} => GETSET k w
=> GETSET k w
SET k v PXAT {future_ms} => GETEX k
SET k v => GETEX k EX 100
SET k v => GETEX k PX 100000
SET k v => GETEX k EXAT {future}
SET k v => GETEX k PXAT {future_ms}
SET k v => GETEX k PXAT {past_ms}
SET k v PXAT {future_ms} => GETEX k PERSIST
SET k v => GETEX k PERSIST
=> GETEX k EX 100
SET k v => DELIFEQ k v
SET k v => DELIFEQ k w
=> DELIFEQ k w

SET a 1 ; SET b 2 => DEL a x b
=> DEL a
SET a 1 ; SET b 2 => UNLINK a x b
SET k v => EXPIRE k 100
=> EXPIRE k 100
SET k v => EXPIRE k 0
SET k v => EXPIRE k -5
SET k v PXAT {future_ms} => EXPIRE k 100 NX
SET k v => EXPIRE k 100 NX
SET k v => EXPIRE k 100 XX
SET k v => EXPIRE k 100 GT
SET k v PXAT {future_ms} => EXPIRE k 100 GT
SET k v PXAT {future_ms} => EXPIRE k 100 LT
SET k v PXAT {future_ms} => EXPIRE k -1 GT
SET k v => PEXPIRE k 100000
SET k v => PEXPIRE k 60000 LT
SET k v => EXPIREAT k {future}
SET k v => EXPIREAT k {past}
SET k v => PEXPIREAT k {future_ms}
SET k v => PEXPIREAT k 0
RPUSH k a => PEXPIREAT k {past_ms}
SET k v PXAT {future_ms} => PERSIST k
SET k v => PERSIST k
=> PERSIST k
SET a v PXAT {future_ms} ; SET b x => RENAME a b
SET a v => RENAME a a
SET a v => RENAMENX a b
SET a v ; SET b x => RENAMENX a b
SET a v PXAT {future_ms} => COPY a b
SET a v ; SET b x => COPY a b
SET a v ; SET b x PXAT {future_ms} => COPY a b REPLACE
SET a v => COPY a b DB 1
SET a v => COPY a a DB 1 REPLACE
=> COPY a b
SET a v PXAT {future_ms} => MOVE a 1
=> MOVE a 1
RPUSH l 3 1 2 ; RPUSH d x => SORT l STORE d
RPUSH l 3 1 2 => SORT l LIMIT 0 2 DESC STORE d
RPUSH d x => SORT nokey STORE d
! RPUSH l b a => SORT l ALPHA STORE d
! RPUSH l b a => SORT l BY w_* STORE d

=> HSET h a 1 b 2
HSET h a 1 => HSET h a 2 b 2
=> HMSET h a 1
=> HSETNX h a 1
HSET h a 1 => HSETNX h a 2
HSET h a 1 b 2 => HDEL h a x
HSET h a 1 => HDEL h a
HSET h a 1 => HINCRBY h a 5
HSET h a 0.1 => HINCRBYFLOAT h a 0.2
=> HINCRBYFLOAT h a 1e3
HSET h a 1 ; HPEXPIREAT h {future_ms} FIELDS 1 a => HINCRBYFLOAT h a 0.5
HSET h a 1 ; HPEXPIREAT h {future_ms} FIELDS 1 a => HINCRBY h a 5
HSET h a 1 ; HPEXPIREAT h {future_ms} FIELDS 1 a => HSET h a 5
HSET h a 1 b 2 => HEXPIRE h 100 FIELDS 3 a b x
HSET h a 1 b 2 => HEXPIRE h 0 FIELDS 1 a
HSET h a 1 => HEXPIRE h 0 FIELDS 1 a
HSET h a 1 b 2 ; HPEXPIREAT h {future_ms} FIELDS 1 a => HEXPIRE h 100 NX FIELDS 2 a b
HSET h a 1 b 2 ; HPEXPIREAT h {future_ms} FIELDS 1 a => HEXPIRE h 100 XX FIELDS 2 a b
HSET h a 1 b 2 ; HPEXPIREAT h {future_ms} FIELDS 1 a => HEXPIRE h 100 GT FIELDS 2 a b
HSET h a 1 b 2 ; HPEXPIREAT h {future_ms} FIELDS 1 a => HEXPIRE h 100 LT FIELDS 2 a b
=> HEXPIRE h 100 FIELDS 1 a
HSET h a 1 => HPEXPIRE h 100000 FIELDS 1 a
HSET h a 1 => HEXPIREAT h {future} FIELDS 1 a
HSET h a 1 => HPEXPIREAT h {future_ms} FIELDS 1 a
HSET h a 1 b 2 => HPEXPIREAT h {past_ms} FIELDS 1 a
HSET h a 1 ; HPEXPIREAT h {future_ms} FIELDS 1 a => HPERSIST h FIELDS 2 a b
=> HPERSIST h FIELDS 1 a
=> HSETEX h FIELDS 2 a 1 b 2
HSET h a 1 ; HPEXPIREAT h {future_ms} FIELDS 1 a => HSETEX h FIELDS 1 a 2
HSET h a 1 => HSETEX h EX 100 FIELDS 2 a 1 b 2
HSET h a 1 => HSETEX h FNX EX 100 FIELDS 1 a 2
HSET h a 1 => HSETEX h FXX PX 100000 FIELDS 1 a 2
HSET h a 1 => HSETEX h FNX FIELDS 1 b 2
HSET h a 1 b 2 => HSETEX h PXAT {past_ms} FIELDS 1 a 2
HSET h a 1 ; HPEXPIREAT h {future_ms} FIELDS 1 a => HSETEX h KEEPTTL FIELDS 2 a 2 b 3
HSET h a 1 => HSETEX h EXAT {future} FIELDS 3 a 2 b 3 a 4
HSET h a 1 => HGETEX h FIELDS 2 a x
HSET h a 1 => HGETEX h EX 100 FIELDS 2 a x
HSET h a 1 => HGETEX h PXAT {future_ms} FIELDS 1 a
HSET h a 1 b 2 => HGETEX h PXAT {past_ms} FIELDS 1 a
HSET h a 1 ; HPEXPIREAT h {future_ms} FIELDS 1 a => HGETEX h PERSIST FIELDS 2 a x
=> HGETEX h EX 100 FIELDS 1 a
HSET h a 1 b 2 => HGETDEL h FIELDS 2 a x
HSET h a 1 => HGETDEL h FIELDS 2 a a
=> HGETDEL h FIELDS 1 a

=> LPUSH l a b c
RPUSH l x ; PEXPIREAT l {future_ms} => RPUSH l a b
=> LPUSHX l a
RPUSH l x => LPUSHX l a b
=> RPUSHX l a
RPUSH l x => RPUSHX l a b
RPUSH l a b c => LPOP l
RPUSH l a b c => LPOP l 2
RPUSH l a => RPOP l
=> RPOP l
RPUSH l a b c => RPOP l 9
RPUSH l a b c => LINSERT l BEFORE b x
RPUSH l a b c => LINSERT l AFTER q x
RPUSH l a b a => LREM l 1 a
RPUSH l a b a => LREM l 0 q
RPUSH l a b c => LSET l -1 x
RPUSH l a b c => LTRIM l 1 1
RPUSH l a b c => LTRIM l 5 9
RPUSH l a b c => LMOVE l m LEFT RIGHT
RPUSH l a b c => LMOVE l l RIGHT LEFT
=> LMOVE l m LEFT RIGHT
RPUSH l a b c => RPOPLPUSH l m
RPUSH m a b c => LMPOP 2 l m LEFT
RPUSH m a b c => LMPOP 2 l m RIGHT COUNT 2
RPUSH m a b c => LMPOP 1 m left COUNT 9
=> LMPOP 1 l LEFT

=> SADD s a b a
SADD s a b c => SREM s a x
SADD s a b c d e => SPOP s
SADD s a b c d e => SPOP s 3
SADD s a b c => SPOP s 9
SADD s a b c => SPOP s 0
=> SPOP s
=> SPOP s 2
SADD s a b => SMOVE s t a
SADD s a ; SADD t a => SMOVE s t a
SADD s a => SMOVE s t x
SADD s a b ; SADD t b c => SINTERSTORE d s t
SADD d x ; SADD s a => SINTERSTORE d s nokey
SADD s a b ; SADD t b c => SUNIONSTORE s s t
SADD s a b ; SADD t b c => SDIFFSTORE d s t

=> ZADD z 1 a 2 b
ZADD z 1 a => ZADD z NX CH 5 a 6 b
ZADD z 1 a 5 b => ZADD z GT CH 3 a 3 b
ZADD z 1 a => ZADD z XX 9 b
ZADD z 1 a => ZADD z INCR 0.1 a
ZADD z 1 a => ZADD z NX INCR 0.1 a
ZADD z 1.1 a => ZINCRBY z 2.2 a
ZADD z 1 a 2 b => ZREM z a x
ZADD z 1 a 2 b => ZREMRANGEBYRANK z 0 0
ZADD z 1 a 2 b => ZREMRANGEBYSCORE z (1 +inf
ZADD z 0 a 0 b => ZREMRANGEBYLEX z [a (b
ZADD z 1 a 2 b 3.3 c => ZPOPMIN z
ZADD z 1 a 2 b 3.3 c => ZPOPMIN z 2
ZADD z 1 a 2 b 3.3 c => ZPOPMAX z
ZADD z 1 a 2 b => ZPOPMAX z 9
ZADD z 1 a => ZPOPMIN z 0
=> ZPOPMIN z
ZADD z 1 a 2 b 3.3 c => ZMPOP 2 x z MIN
ZADD z 1 a 2 b 3.3 c => ZMPOP 1 z MAX COUNT 2
=> ZMPOP 1 z MIN
ZADD z 1 a 2 b => ZRANGESTORE d z 0 0
ZADD z 1 a 2 b => ZRANGESTORE d z (1 +inf BYSCORE
ZADD z 0.1 a 2 b ; ZADD y 0.2 a => ZUNIONSTORE d 2 z y WEIGHTS 2 3
ZADD z 1 a 2 b ; SADD s a => ZINTERSTORE d 2 z s AGGREGATE MAX
ZADD z 1 a ; ZADD y 2 a ; ZADD x 3 a => ZINTERSTORE d 3 z y x AGGREGATE MIN
! ZADD z 1 a ; ZADD y 2 a ; ZADD x 3 a => ZUNIONSTORE d 3 z y x
ZADD z 1 a 2 b ; ZADD y 2 a => ZDIFFSTORE d 2 z y

=> PFADD p a b c
PFADD p a b => PFADD p a
PFADD p a b => PFCOUNT p
PFADD p a b ; PFADD q c => PFMERGE d p q
PFADD p a b => PFMERGE p p
=> GEOADD g 13.361389 38.115556 P 15.087269 37.502669 C
GEOADD g 13.361389 38.115556 P => GEOADD g XX CH 13.4 38.1 P
GEOADD g 13.3 38.1 P 15.1 37.5 C => GEOSEARCHSTORE d g FROMLONLAT 15 37 BYRADIUS 200 km ASC
! GEOADD g 13.361389 38.115556 P => GEOSEARCHSTORE d g FROMLONLAT 15 37 BYRADIUS 200 km STOREDIST
GEOADD g 13.361389 38.115556 P 15.087269 37.502669 C => GEORADIUS g 15 37 200 km STORE d
! GEOADD g 13.361389 38.115556 P => GEORADIUS g 15 37 200 km COUNT 1 STORE d
GEOADD g 13.361389 38.115556 P => GEORADIUSBYMEMBER g P 200 km STORE d

=> XADD x * f v
=> XADD x 5-1 f v g w
XADD x 5-1 f v => XADD x 5-* f v
=> XADD x NOMKSTREAM * f v
XADD x 5-1 f v => XADD x NOMKSTREAM 7-0 f v
{entries} => XADD x MAXLEN 3 * f v
{entries} => XADD x MAXLEN = 3 * f v
{entries} => XADD x MAXLEN ~ 100 * f v
{entries} => XADD x MAXLEN ~ 3 LIMIT 200 * f v
{entries} => XADD x MINID 100-0 * f v
{entries} => XADD x MINID ~ 150-0 * f v
{entries} => XTRIM x MAXLEN 3
{entries} => XTRIM x MAXLEN ~ 120
{entries} => XTRIM x MAXLEN ~ 1000
{entries} => XTRIM x MINID = 100-0
{entries} => XTRIM x MINID ~ 220-0 LIMIT 500
XADD x 1-1 f v ; XADD x 2-1 f v => XDEL x 1-1 9-9
XADD x 1-1 f v => XSETID x 9-0
XADD x 1-1 f v => XGROUP CREATE x g 0
XADD x 1-1 f v => XGROUP CREATE x g $
XADD x 1-1 f v => XGROUP CREATE x g 1-1 ENTRIESREAD 1
=> XGROUP CREATE x g $ MKSTREAM
{group} => XGROUP SETID x g $
{group} => XGROUP SETID x g 2-1 ENTRIESREAD 2
{group} => XGROUP CREATECONSUMER x g cx
{group} => XGROUP CREATECONSUMER x g c1
{group} => XGROUP DELCONSUMER x g c1
{group} => XGROUP DESTROY x g
{group} => XACK x g 1-1 2-1 9-9
{group} => XREADGROUP GROUP g c9 STREAMS x >
{group} => XREADGROUP GROUP g c1 COUNT 1 STREAMS x >
{group} => XREADGROUP GROUP g c9 NOACK STREAMS x >
{group} => XREADGROUP COUNT 1 GROUP g c1 STREAMS x >
{group} => XREADGROUP GROUP g c1 STREAMS x 0
{group} => XREADGROUP GROUP g c9 STREAMS x 0
{group} ; XDEL x 1-1 => XREADGROUP GROUP g c1 STREAMS x 0
{group} ; XADD y 1-1 f v ; XGROUP CREATE y g 0 => XREADGROUP GROUP g c9 STREAMS x y > >
{group} ; XADD y 1-1 f v ; XGROUP CREATE y g $ => XREADGROUP GROUP g c9 STREAMS y x > 0
{group} ; XGROUP SETID x g $ => XREADGROUP GROUP g c9 STREAMS x >
{group} ; XGROUP SETID x g $ => XREADGROUP GROUP g c9 NOACK STREAMS x >
{group} => XCLAIM x g c2 0 1-1 2-1
{group} => XCLAIM x g c2 0 1-1 JUSTID
{group} => XCLAIM x g c1 0 1-1 2-1 IDLE 5000 RETRYCOUNT 7
{group} => XCLAIM x g c2 0 3-1 FORCE TIME {past_ms} LASTID 4-1
{group} => XAUTOCLAIM x g c2 0 0
{group} => XAUTOCLAIM x g c2 0 0 COUNT 1
{group} => XAUTOCLAIM x g c2 0 1-2 JUSTID
{group} => XAUTOCLAIM x g c2 100000000 0
{group} ; XDEL x 3-1 => XAUTOCLAIM x g c2 0 0
"""

_MACROS = {
    "entries": " ; ".join(f"XADD x {i}-0 f v" for i in range(1, 251)),
    "group": "XADD x 1-1 f v ; XADD x 2-1 f w ; XADD x 3-1 f x ; XADD x 4-1 f y"
    " ; XGROUP CREATE x g 0 ; XREADGROUP GROUP g c1 COUNT 2 STREAMS x >"
    " ; XCLAIM x g c1 0 1-1 2-1 TIME 1700000000000 RETRYCOUNT 3 JUSTID",
}


def cases() -> list[str]:
    return [line.strip() for line in CASES.splitlines() if line.strip()]


def filled_in(case: str, now_ms: int) -> tuple[list[str], str]:
    """The lines of the setup, and the command."""
    text = case.format(
        future=now_ms // 1000 + 3600,
        future_ms=now_ms + 3600_250,
        past=now_ms // 1000 - 5,
        past_ms=now_ms - 5000,
        **_MACROS,
    )
    before, command = text.split("=>")
    setup = [line.strip() for line in before.split(" ; ") if line.strip()]
    return setup, command.strip()
