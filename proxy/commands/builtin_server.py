"""The rows of the commands that ask the server or the connection.

One line per command: name and arity. What is refused is in :mod:`proxy.commands.policy`.
"""

from __future__ import annotations

CONTAINERS = """
    acl -2  client -2  cluster -2  command -1  commandlog -2  config -2  function -2  latency -2
    memory -2  module -2  object -2  pubsub -2  script -2  slowlog -2  xgroup -2  xinfo -2
"""
"""Commands that are nothing without a subcommand (but COMMAND, which lists all)."""

NODES = """
    dbsize 1  echo 2  info -1  keys 2  lastsave 1  lolwut -1  ping -1  randomkey 1  role 1  time 1
    acl|cat -2  acl|dryrun -4  acl|genpass -2  acl|getuser 3  acl|help 2  acl|list 2  acl|log -2
    acl|users 2  acl|whoami 2
    client|help 2
    cluster|count-failure-reports 3  cluster|countkeysinslot 3  cluster|getkeysinslot 4
    cluster|getslotmigrations 2  cluster|help 2  cluster|info 2  cluster|keyslot 3
    cluster|links 2  cluster|myid 2  cluster|myshardid 2  cluster|nodes 2  cluster|replicas 3
    cluster|shards 2  cluster|slaves 3  cluster|slot-stats -4  cluster|slots 2
    command|count 2  command|docs -2  command|getkeys -3  command|getkeysandflags -3
    command|help 2  command|info -2  command|list -2
    commandlog|get 4  commandlog|help 2  commandlog|len 3  commandlog|reset 3
    config|get -3  config|help 2
    function|dump 2  function|help 2  function|list -2
    latency|doctor 2  latency|graph 3  latency|help 2  latency|histogram -2  latency|history 3
    latency|latest 2  latency|reset -2
    memory|doctor 2  memory|help 2  memory|malloc-stats 2  memory|purge 2  memory|stats 2
    module|help 2  module|list 2
    object|help 2
    publish 3  spublish 3
    pubsub|channels -2  pubsub|help 2  pubsub|numpat 2  pubsub|numsub -2
    pubsub|shardchannels -2  pubsub|shardnumsub -2
    script|exists -3  script|help 2  script|show 3
    slowlog|get -2  slowlog|help 2  slowlog|len 2  slowlog|reset 2
    xgroup|help 2  xinfo|help 2
"""

LOCALS = """
    auth -2  hello -1  quit -1  reset 1  select 2
    client|caching 3  client|capa -3  client|getname 2  client|getredir 2  client|id 2
    client|info 2  client|kill -3  client|list -2  client|no-evict 3  client|no-touch 3
    client|reply 3  client|setinfo 4  client|setname 3  client|tracking -3  client|trackinginfo 2
    client|unblock -3
    host: -1  post -1
"""

OWN = "function|kill 2  function|stats 2  script|kill 2  wait 3  waitaof 4"

TRANSACTIONS = "multi 1  exec 1  discard 1  watch -2  unwatch 1"

SUBSCRIPTIONS = """
    monitor 1
    psubscribe -2  punsubscribe -1  ssubscribe -2  subscribe -2  sunsubscribe -1  unsubscribe -1
"""
