"""Which keys a script is said to write: by what it says, and by what it hides."""

from __future__ import annotations

import pytest

from proxy.commands import CommandTable
from proxy.lua import UNKNOWN, Script, library_name, read_body, read_library

TABLE = CommandTable()


def shown(script: Script) -> str:
    """``KEYS[1] KEYS[*] ARGV[2] 'literal'``; ``-``: nothing, ``?``: nobody can tell."""
    if script.written is None:
        return "?"
    words = [
        f"'{which.decode()}'"
        if isinstance(which, bytes)
        else f"{origin.value}[{which if which else '*'}]"
        for origin, which in script.written
    ]
    return " ".join(sorted(words)) or "-"


def verdict(body: str) -> str:
    return shown(read_body(body.encode(), TABLE))


UNLOCK = """
-- release a lock that is still ours
if redis.call('GET', KEYS[1]) == ARGV[1] then
    return redis.call('DEL', KEYS[1])
end
return 0
"""
EXTEND = """
local token = redis.call('get', KEYS[1])
if not token or token ~= ARGV[1] then return 0 end
local left = redis.call('pttl', KEYS[1])
if left < 0 then left = 0 end
local new = ARGV[2]
if ARGV[3] == "0" then new = ARGV[2] + left end
redis.call('pexpire', KEYS[1], new)
return 1
"""
FIXED_WINDOW = """
local n = redis.call("INCR", KEYS[1])
if tonumber(n) == 1 then redis.call("EXPIRE", KEYS[1], ARGV[1]) end
return {n, redis.call("TTL", KEYS[1])}
"""
SLIDING_WINDOW = """
local key, now, window = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', key, '-inf', now - window)
if redis.call('ZCARD', key) < tonumber(ARGV[3]) then
  redis.call('ZADD', key, now, ARGV[4])
  redis.call('PEXPIRE', key, window)
  return 1
end
return 0
"""
TOKEN_BUCKET = """
local call = redis.call
local bucket = KEYS[1]
local t = call('TIME')
local now = t[1] + t[2] / 1e6
local state = call('HMGET', bucket, 'tokens', 'at')
local tokens = tonumber(state[1]) or tonumber(ARGV[1])
tokens = math.min(tonumber(ARGV[1]), tokens + (now - (tonumber(state[2]) or now)) * ARGV[2])
local granted = tokens >= 1
if granted then tokens = tokens - 1 end
call('HSET', bucket, 'tokens', tostring(tokens), 'at', tostring(now))
call('EXPIRE', bucket, math.ceil(ARGV[1] / ARGV[2]) * 2)
return granted and 1 or 0
"""
JOB_QUEUE = """
local waiting, active = KEYS[1], KEYS[2]
local id = redis.call("RPOPLPUSH", waiting, active)
if id then
  -- the job's own key is made of its id
  redis.call("HSET", KEYS[3] .. id, "at", ARGV[1])
end
return id
"""
DELETE_BY_PATTERN = """
local found = redis.call('KEYS', ARGV[1])
for i = 1, #found, 5000 do
  redis.call('DEL', unpack(found, i, math.min(i + 4999, #found)))
end
return #found
"""
STOCK = """
for i = 1, #KEYS do
  local left = tonumber(redis.call('GET', KEYS[i]) or '0')
  if left < tonumber(ARGV[i]) then return redis.error_reply('sold out') end
end
for i, key in ipairs(KEYS) do redis.call('DECRBY', key, ARGV[i]) end
return redis.status_reply('OK')
"""
SCOREBOARD = """
local function bump(board, by)
  local score = redis.call('ZINCRBY', board, by, ARGV[1])
  redis.call('EXPIRE', board, 86400)
  return score
end
local day = bump(KEYS[1], ARGV[2])
return { day, bump(KEYS[2], ARGV[2]) }
"""
JSON_MERGE = """
local old = redis.call('GET', KEYS[1])
local merged = old and cjson.decode(old) or {}
for name, value in pairs(cjson.decode(ARGV[1])) do merged[name] = value end
redis.call('SET', KEYS[1], cjson.encode(merged), 'KEEPTTL')
"""
COMPARE_AND_SET = """#!lua
local current = server.call('GET', KEYS[1])
if current == (ARGV[1] ~= '' and ARGV[1] or false) then
  return server.call('SET', KEYS[1], ARGV[2])
end
return nil
"""


@pytest.mark.parametrize(
    ("body", "written"),
    [
        (UNLOCK, "KEYS[1]"),
        (EXTEND, "KEYS[1]"),
        (FIXED_WINDOW, "KEYS[1]"),
        (SLIDING_WINDOW, "KEYS[1]"),
        (TOKEN_BUCKET, "KEYS[1]"),
        (JOB_QUEUE, "?"),
        (DELETE_BY_PATTERN, "?"),
        (STOCK, "KEYS[*]"),
        (SCOREBOARD, "KEYS[1] KEYS[2]"),
        (JSON_MERGE, "KEYS[1]"),
        (COMPARE_AND_SET, "KEYS[1]"),
    ],
)
def test_scripts_that_applications_use(body: str, written: str) -> None:
    assert verdict(body) == written


TOLD = {
    "return 1": "-",
    "": "-",
    "return redis.call('GET', 'config:' .. KEYS[1])": "-",
    "return redis.call('HSCAN', KEYS[1], 0)": "-",
    "return redis.call('PING')": "-",
    "redis.call('SET', 'counter', 1)": "'counter'",
    "redis.call('SET', ARGV[2], 1)": "ARGV[2]",
    "redis.call('SET', KEYS[0], 1)": "-",
    "redis.call('SET', KEYS[1.5], 1)": "KEYS[*]",
    "redis.call('SET', KEYS[n()], 1) ": "?",
    "redis.call'FLUSH'": "?",
    "redis.pcall('SET', KEYS[1], 1)": "KEYS[1]",
    'redis.call("\\83ET", KEYS[1], 1)': "KEYS[1]",
    "redis.call([[SET]], KEYS[1], 1)": "KEYS[1]",
    "redis.call([==[\nSET]==], KEYS[1], 1)": "KEYS[1]",
    "redis.call(--[[ it's ]] 'SET', KEYS[1], 1)": "KEYS[1]",
    "local c = redis.call local d = c d('SET', KEYS[1], 1)": "KEYS[1]",
    "local c c = redis.call c('SET', KEYS[1], 1)": "KEYS[1]",
    "local k if ARGV[1] then k = KEYS[1] else k = KEYS[2] end redis.call('DEL', k)": (
        "KEYS[1] KEYS[2]"
    ),
    "local k = KEYS[2] and KEYS[1] or 'none' redis.call('DEL', k)": "'none' KEYS[1]",
    "local k = redis.call('GET', 'x') or KEYS[1] redis.call('DEL', k)": "?",
    "local k = redis.call('GET', 'x') and KEYS[1] redis.call('DEL', k)": "KEYS[1]",
    "local a, b = unpack(KEYS) redis.call('RENAME', a, b)": "KEYS[*]",
    "local a, b = KEYS[1] redis.call('RENAME', a, b)": "KEYS[1]",
    "redis.call('DEL', unpack(KEYS, 2, 3))": "KEYS[*]",
    "redis.call('DEL', KEYS[1], unpack(ARGV))": "ARGV[*] KEYS[1]",
    "redis.call('SADD', KEYS[1], unpack(ARGV))": "KEYS[1]",
    "redis.call('SADD', KEYS[1], f(ARGV))": "?",
    "redis.call('MSET', KEYS[1], ARGV[1], KEYS[2], ARGV[2])": "KEYS[1] KEYS[2]",
    "redis.call('ZUNIONSTORE', KEYS[1], #KEYS - 1, unpack(KEYS, 2))": "KEYS[1]",
    "redis.call('LMPOP', 2, KEYS[1], KEYS[2], 'LEFT')": "KEYS[1] KEYS[2]",
    "redis.call('SET', 5, 1)": "'5'",
    "redis.call('SET', 05, 1)": "?",
    "redis.call('LMPOP', #KEYS, KEYS[1], KEYS[2], 'LEFT')": "?",
    "redis.call('LMPOP', ARGV[1], KEYS[1], KEYS[2], 'LEFT')": "?",
    "redis.call('SORT', KEYS[1], 'BY', 'w_*', 'STORE', KEYS[2])": "KEYS[2]",
    "redis.call('SORT', KEYS[1])": "-",
    "redis.call('SORT', KEYS[1], ARGV[1], KEYS[2])": "?",
    "redis.call('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', KEYS[1], '>')": "KEYS[1]",
    "redis.call('XREADGROUP', 'GROUP', 'g', ARGV[1], ARGV[2], KEYS[1], '>')": "?",
    "redis.call('XGROUP', 'CREATE', KEYS[1], 'g', '$')": "KEYS[1]",
    "redis.call('XGROUP', ARGV[1], KEYS[1], 'g', '$')": "?",
    "redis.call('OBJECT', 'ENCODING', KEYS[1])": "-",
    "redis.call('COPY', KEYS[1], KEYS[2])": "KEYS[2]",
    "redis.call('COPY', KEYS[1], KEYS[2], 'DB', 3)": "?",
    "redis.call('COPY', KEYS[1], KEYS[2], ARGV[1], ARGV[2])": "?",
    "redis.call('MOVE', KEYS[1], ARGV[1])": "?",
    "local function set(k) redis.call('SET', k, 1) end set(KEYS[1]) set(ARGV[1])": (
        "ARGV[1] KEYS[1]"
    ),
    "local function set(k) redis.call('SET', k, 1) end set(KEYS[1] .. 'x')": "?",
    "local function set(k) redis.call('SET', k, 1) end set(unpack(KEYS))": "KEYS[*]",
    "local function set(v, k) redis.call('SET', k, v) end set(unpack(KEYS))": "KEYS[*]",
    "local function set(k) redis.call('SET', k, 1) end": "-",
    "local function set(k) if k then redis.call('DEL', k) return set() end end set(KEYS[1])": (
        "KEYS[1]"
    ),
    "for _, k in pairs(ARGV) do redis.call('DEL', k) end": "ARGV[*]",
    "for k in pairs(ARGV) do redis.call('DEL', k) end": "?",
    "for i = 1, 9 do redis.call('DEL', i) end": "?",
    "local keys = KEYS for _, k in ipairs(keys) do redis.call('DEL', k) end": "KEYS[*]",
    "local n = table.concat(KEYS, ',') redis.call('DEL', KEYS[1])": "KEYS[1]",
    "pcall(function() redis.call('DEL', KEYS[1]) end)": "KEYS[1]",
    "repeat local k = KEYS[1] until redis.call('DEL', k)": "KEYS[1]",
    "return #redis.call('LRANGE', KEYS[1], 0, -1) > 0 and redis.call('DEL', KEYS[1])": "KEYS[1]",
    "redis.call('EVAL', 'return 1', 0)": "?",
    "redis.call('SELECT', 1)": "?",
    "redis.call('FLUSHALL')": "?",
    "redis.call('NOSUCH', KEYS[1])": "?",
    "redis.call('xgroup|create', KEYS[1])": "?",
    "redis.call(ARGV[1], KEYS[1])": "?",
    "redis.call(unpack(ARGV))": "?",
    "redis.call()": "?",
    "#!lua flags=no-writes,allow-stale\nredis.call(unpack(ARGV))": "-",
    "#!lua flags=allow-stale\nredis.call('SET', KEYS[1], 1)": "KEYS[1]",
}


@pytest.mark.parametrize("body", TOLD)
def test_what_a_script_says_it_writes(body: str) -> None:
    assert verdict(body) == TOLD[body]


HIDDEN = [
    "KEYS[1] = 'made'",
    "KEYS = {'made'}",
    "local a = KEYS a[1] = 'made'",
    "local a = KEYS local b = a b[1] = 'made'",
    "local a a = KEYS a[1] = 'made'",
    "local t = {KEYS} t[1][1] = 'made'",
    "local f, a = ipairs(KEYS) a[1] = 'made'",
    "table.insert(KEYS, 1, 'made')",
    "rawset(KEYS, 1, 'made')",
    "setmetatable(KEYS, {__index = function() return 'made' end})",
    "(function(t) t[1] = 'made' end)(KEYS)",
    "local function f(t) t = KEYS t[1] = 'made' end f()",
    "for i, v in next, KEYS do KEYS[i] = 'made' end",
    "_G.KEYS[1] = 'made'",
    "_G['KEYS'][1] = 'made'",
    "getfenv().KEYS[1] = 'made'",
    "setfenv(1, {KEYS = {'made'}, redis = redis})",
    "loadstring('KEYS[1] = \"made\"')()",
    "unpack = function() return 'made' end",
    "table.concat = function() return 'made' end",
    "redis.call = function() end",
    "local c = redis.call pcall(c, 'SET', 'made', 1)",
    "pcall(redis.call, 'SET', 'made', 1)",
    "local r = redis r.call('SET', 'made', 1)",
    "redis['ca' .. 'll']('SET', 'made', 1)",
    "local t = {redis.call} t[1]('SET', 'made', 1)",
    "local t = {f = redis.call} t.f('SET', 'made', 1)",
    "local c = redis.call c = print",
    "local function f(c) c('SET', 'made', 1) end f(redis.call)",
    "(redis.call or 1)('SET', 'made', 1)",
    "local s = string s.format = redis.call",
    "debug.sethook(print, 'l')",
    "local KEYS = {'made'} redis.call('SET', KEYS[1], 1)",
    "local k = 'made' do local k = KEYS[1] end redis.call('SET', k .. '', 1)",
    "local KEYS = KEYS KEYS[1] = 'made'",
    "local x = x_of_nobody",
    "redis.nosuch()",
    "local f = function(k) redis.call('SET', k, 1) end pcall(f, 'made')",
    "local f = function(k) redis.call('SET', k, 1) end f = f f('made' .. '')",
    "local t = {} function t.f(k) redis.call('SET', k, 1) end t.f('made')",
    "local function f(...) redis.call('SET', ..., 1) end f('made')",
    "local function f(...) redis.call('SET', arg[1], 1) end f('made')",
    "end redis.call('SET', 'made', 1) function f()",
    "this is not lua",
    "return 'unfinished",
    "--[[ unfinished",
    "return '\0'",
    "return " + "(" * 300 + "1" + ")" * 300,
    "return " + "-" + "(-" * 100 + "1" + ")" * 100,
    "return a" + ".b" * 5000,
    "--" + " " * 70_000,
    "\x1bLuaQ",
]


@pytest.mark.parametrize("body", HIDDEN, ids=range(len(HIDDEN)))
def test_what_hides_a_key_makes_the_script_unknown(body: str) -> None:
    assert verdict(f"{body} redis.call('DEL', KEYS[1])") == "?"


def test_a_name_that_is_used_before_it_is_declared_is_another_one() -> None:
    body = "local k = 'outer' local f = function() local k = k redis.call('DEL', k) end f()"
    assert verdict(body) == "'outer'"
    assert verdict("local k = KEYS[1] do local k = k .. 'x' redis.call('DEL', k) end") == "?"
    assert verdict("do local k = KEYS[1] end redis.call('DEL', k)") == "?"


def test_whether_a_script_stays_in_its_database() -> None:
    for body, stays in (
        ("redis.call('SET', KEYS[1] .. 'x', 1)", True),
        ("redis.call('DEL', unpack(redis.call('KEYS', '*')))", True),
        ("redis.call('SELECT', 1) redis.call('SET', KEYS[1] .. 'x', 1)", False),
        ("redis.call('MOVE', KEYS[1] .. 'x', 1)", False),
        ("redis.call(ARGV[1])", False),
        ("redis.call('FLUSHALL')", False),
    ):
        script = read_body(body.encode(), TABLE)
        assert (script.written, script.stays) == (None, stays), body
    assert not UNKNOWN.stays


def test_whether_a_script_may_last() -> None:
    for body, may_last in (
        ("return redis.call('GET', KEYS[1])", False),
        (
            "local function f(k) return redis.call('INCR', k) end return f(KEYS[1]) + f(KEYS[2])",
            False,
        ),
        ("for i = 1, 9 do redis.call('INCR', KEYS[1]) end", True),
        ("while true do end", True),
        ("repeat until false", True),
        ("pcall(function() while true do end end)", True),
        ("local function f(n) return f(n + 1) end return f(1)", True),
        ("local g local function f() return g() end g = function() return f() end f()", True),
        ("return (function() return 1 end)()", False),
        ("not lua", True),
    ):
        assert read_body(body.encode(), TABLE).may_last is may_last, body


# -- libraries -----------------------------------------------------------------------------

LIBRARY = """#!lua name=shop
local TTL = 60
local function touch(key) redis.call('EXPIRE', key, TTL) end

local function add(keys, args)
  redis.call('HSET', keys[1], args[1], args[2])
  touch(keys[1])
end

local function peek(keys) return redis.call('HGETALL', keys[1]) end

redis.register_function('add', add)
redis.register_function{function_name = 'peek', callback = peek, flags = {'no-writes'}}
redis.register_function('move', function(k, a)
  for _, key in ipairs(k) do redis.call('RENAME', key, a[1]) end
end)
redis.register_function('wild', function(keys) redis.call('SET', keys[1] .. ':x', 1) end)
redis.register_function{
  function_name = 'promised', flags = {'allow-stale', 'no-writes'},
  callback = function(keys) return redis.call(keys[1]) end,
}
"""


def functions(code: str) -> dict[str, str]:
    found = read_library(code.encode(), TABLE)
    return {name.decode(): shown(script) for name, script in found.items()}


def test_the_functions_of_a_library_are_told_one_by_one() -> None:
    assert functions(LIBRARY) == {
        "add": "KEYS[1]",
        "peek": "-",
        "move": "ARGV[1] KEYS[*]",
        "wild": "?",
        "promised": "-",
    }
    assert library_name(LIBRARY.encode()) == b"shop"
    assert library_name(b"return 1") is None


@pytest.mark.parametrize(
    ("code", "verdicts"),
    [
        # Its parameter is not always what the client gave.
        (
            "local function f(keys) redis.call('DEL', keys[1]) end "
            "redis.register_function('f', f) "
            "redis.register_function('g', function() f({'made'}) end)",
            {"f": "?", "g": "?"},
        ),
        (
            "local function f(keys) redis.call('DEL', keys[1]) end "
            "local t = {f} redis.register_function('f', f)",
            {"f": "?"},
        ),
        (
            "redis.register_function('f', function(keys) keys[1] = 'made' "
            "redis.call('DEL', keys[1]) end)",
            {"f": "?"},
        ),
        (
            "redis.register_function('f', function(keys) keys = {'made'} "
            "redis.call('DEL', keys[1]) end)",
            {"f": "?"},
        ),
        # What it calls through a table nobody can tell.
        (
            "local t = {} t.f = function() redis.call('DEL', 'x' .. 'y') end "
            "redis.register_function('f', function(keys) t.f() end)",
            {"f": "?"},
        ),
        (
            "local f = function(keys) redis.call('DEL', keys[1]) end "
            "f = function() redis.call('DEL', 'x' .. 'y') end redis.register_function('f', f)",
            {},
        ),
        # Through others, and down to what they call.
        (
            "local c = function() redis.call('DEL', 'x' .. 'y') end "
            "local b = function() local d = c d() end "
            "redis.register_function('f', function() b() end) "
            "redis.register_function('g', function() end)",
            {"f": "?", "g": "?"},
        ),
        (
            "local c = function() redis.call('DEL', 'x' .. 'y') end "
            "redis.register_function('f', function() return function() c() end end) "
            "redis.register_function('g', function() end)",
            {"f": "?", "g": "?"},
        ),
        # What runs at once belongs to who runs it; what is kept, to everybody.
        (
            "redis.register_function('f', function() pcall(function() "
            "redis.call('DEL', 'x' .. 'y') end) end) "
            "redis.register_function('g', function(k) (function() "
            "redis.call('DEL', k[1]) end)() end)",
            {"f": "?", "g": "KEYS[1]"},
        ),
        (
            "local t = {} redis.register_function('f', function() table.insert(t, function() "
            "redis.call('DEL', 'x' .. 'y') end) end) "
            "redis.register_function('g', function() t[1]() end)",
            {"f": "?", "g": "?"},
        ),
        ("redis.register_function('f', function() redis.call('DEL', KEYS[1]) end)", {}),
        ("local n = 'f' redis.register_function(n, function() end)", {}),
        ("local r = redis.register_function r('f', function() end)", {}),
        (
            "server.register_function('f', function(k) server.call('DEL', k[2]) end)",
            {"f": "KEYS[2]"},
        ),
        ("x = 1", {}),
    ],
)
def test_libraries_that_hide_what_they_do(code: str, verdicts: dict[str, str]) -> None:
    assert functions(code) == verdicts
