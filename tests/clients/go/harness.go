// What harness.py says, for Go: `clients PROTOCOL PORT NAME FEATURES`.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	pace  = 100 * time.Millisecond
	beat  = 100 * time.Millisecond
	grace = 20 * time.Second
)

type wrong string

func same(got, wanted any, what string) {
	if !reflect.DeepEqual(got, wanted) {
		panic(wrong(fmt.Sprintf("%s: %.150v instead of %.150v", what, got, wanted)))
	}
}

// is(what, wanted)(client.Command().Result()): no error, and this reply.
func is[T any](what string, wanted T) func(T, error) {
	return func(got T, err error) {
		ok(what, err)
		same(got, wanted, what)
	}
}

func ok(what string, err error) {
	if err != nil {
		panic(fmt.Errorf("%s: %w", what, err))
	}
}

type load struct {
	protocol, port int
	name           string
	features       []string
	beginning      chan struct{}
	stopping       chan struct{}

	mutex  sync.Mutex
	done   map[string]int
	errors []string
	wrong  []string
}

func newLoad() *load {
	l := &load{
		name:      os.Args[3],
		features:  strings.Split(os.Args[4], ","),
		beginning: make(chan struct{}),
		stopping:  make(chan struct{}),
		done:      map[string]int{},
		errors:    []string{},
		wrong:     []string{},
	}
	l.protocol, _ = strconv.Atoi(os.Args[1])
	l.port, _ = strconv.Atoi(os.Args[2])
	for _, feature := range l.features {
		l.done[feature] = 0
	}
	go func() {
		os.Stdin.Read(make([]byte, 1))
		close(l.beginning)
		io.Copy(io.Discard, os.Stdin)
		close(l.stopping)
	}()
	return l
}

func (l *load) key(parts ...any) string {
	key := l.name
	for _, part := range parts {
		key += fmt.Sprintf(":%v", part)
	}
	return key
}

func (l *load) count(feature string) int {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.done[feature]++
	return l.done[feature]
}

func (l *load) isStopped() bool {
	select {
	case <-l.stopping:
		return true
	default:
		return false
	}
}

// rounds calls round(1), round(2) … at a steady pace until the end, and counts what was done.
func (l *load) rounds(feature string, round func(n int)) int {
	n := 0
	for !l.isStopped() {
		n++
		round(n)
		l.count(feature)
		select {
		case <-l.stopping:
		case <-time.After(pace):
		}
	}
	return n
}

// together runs each worker, and panics with what one of them panicked with.
func together(workers ...func()) {
	failures := make(chan any, len(workers))
	for _, worker := range workers {
		go func() {
			defer func() { failures <- recover() }()
			worker()
		}()
	}
	for range workers {
		if failure := <-failures; failure != nil {
			panic(failure)
		}
	}
}

func (l *load) guarded(feature string, work func()) {
	defer func() {
		failure := recover()
		l.mutex.Lock()
		defer l.mutex.Unlock()
		switch failure := failure.(type) {
		case nil:
		case wrong:
			l.wrong = append(l.wrong, fmt.Sprintf("%s: %s", feature, failure))
		default:
			l.errors = append(l.errors, fmt.Sprintf("%s: %v", feature, failure))
		}
	}()
	work()
}

func (l *load) say() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	line, _ := json.Marshal(map[string]any{"done": l.done, "errors": l.errors, "wrong": l.wrong})
	fmt.Println(string(line))
}

// run has all features at work until the end, and then the time to finish.
func (l *load) run(features map[string]func()) {
	l.say()
	<-l.beginning
	ended := make(chan string, len(l.features))
	ending := map[string]bool{}
	for _, feature := range l.features {
		ending[feature] = true
		go func() {
			l.guarded(feature, features[feature])
			ended <- feature
		}()
	}
	for !l.isStopped() {
		l.say()
		time.Sleep(beat)
	}
	deadline := time.After(grace)
	for len(ending) > 0 {
		select {
		case feature := <-ended:
			delete(ending, feature)
		case <-deadline:
			for feature := range ending {
				l.guarded(feature, func() { panic("did not end") })
				delete(ending, feature)
			}
		}
	}
	l.say()
}
