// Twenty tasks as Go programs have them, most of them on the standard library. Each prints one line, which follows from
// its name and size alone. usage: go TASK SIZE
package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
)

var tasks = map[string]func(n int) string{
	"nbody":      nbody,
	"matmul":     matmul,
	"wordcount":  wordcount,
	"sortstruct": sortstruct,
	"format":     formatTask,
	"json":       jsonTask,
	"regexp":     regexpTask,
	"crypto":     cryptoTask,
	"flate":      flateTask,
	"bintrees":   bintrees,
	"sieve":      sieve,
	"pipeline":   pipeline,
	"dispatch":   dispatch,
	"closures":   closures,
	"pidigits":   pidigits,
	"interp":     interp,
	"fib":        fibTask,
	"editdist":   editdist,
	"template":   templateTask,
	"goparse":    goparse,
}

// rng is xorshift64*: the same numbers on every machine.
type rng uint64

func (r *rng) next() uint64 {
	x := uint64(*r)
	x ^= x >> 12
	x ^= x << 25
	x ^= x >> 27
	*r = rng(x)
	return x * 2685821657736338717
}

func (r *rng) intn(n int) int { return int((r.next() >> 33) % uint64(n)) }
func (r *rng) float() float64 { return float64(r.next()>>11) / (1 << 53) }

func newRng(seed uint64) *rng {
	r := rng(seed*0x9E3779B97F4A7C15 | 1)
	return &r
}

const fnvInit = 14695981039346656037

// fnv goes on with a checksum (FNV-1a).
func fnv(h uint64, s string) uint64 {
	for i := 0; i < len(s); i++ {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: go TASK SIZE; tasks:", slices.Sorted(maps.Keys(tasks)))
		os.Exit(2)
	}
	f, ok := tasks[os.Args[1]]
	n, err := strconv.Atoi(os.Args[2])
	if !ok || err != nil || n < 1 {
		fmt.Fprintln(os.Stderr, "go: no such task or size")
		os.Exit(2)
	}
	fmt.Printf("%s %d: %s\n", os.Args[1], n, f(n))
}
