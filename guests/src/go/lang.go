package main

import (
	"fmt"
	"math"
	"sync"
)

// sieve: the first n primes by a chain of goroutines, each of which filters by one.
func sieve(n int) string {
	ch := make(chan int)
	done := make(chan struct{})
	go func(ch chan int) {
		for i := 2; ; i++ {
			select {
			case ch <- i:
			case <-done:
				return
			}
		}
	}(ch)
	sum, p := 0, 0
	for i := 0; i < n; i++ {
		p = <-ch
		sum += p
		next := make(chan int)
		go func(in, out chan int, p int) {
			for {
				select {
				case v := <-in:
					if v%p != 0 {
						select {
						case out <- v:
						case <-done:
							return
						}
					}
				case <-done:
					return
				}
			}
		}(ch, next, p)
		ch = next
	}
	close(done)
	return fmt.Sprintf("prime %d is %d, sum %d", n, p, sum)
}

// pipeline: n jobs from a producer through 8 workers to a collector: buffered channels, a mutex, defer and recover.
func pipeline(n int) string {
	type job struct {
		id   int
		data []uint32
	}
	type result struct {
		id int
		h  uint64
	}
	jobs, results := make(chan job, 16), make(chan result, 16)
	var wg sync.WaitGroup
	var mu sync.Mutex
	hist := map[uint64]int{}
	work := func(j job) (res result) {
		defer func() {
			if e := recover(); e != nil {
				res = result{j.id, 99}
			}
		}()
		h := uint64(fnvInit)
		for _, v := range j.data {
			h = (h ^ uint64(v)) * 1099511628211
		}
		if j.id%100 == 99 {
			_ = j.data[len(j.data)] // out of range: recovered
		}
		mu.Lock()
		defer mu.Unlock()
		hist[h%64]++
		return result{j.id, h}
	}
	for w := 0; w < 8; w++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for j := range jobs {
				results <- work(j)
			}
		}()
	}
	go func() {
		r := newRng(51)
		for i := 0; i < n; i++ {
			d := make([]uint32, 64)
			for k := range d {
				d[k] = uint32(r.next())
			}
			jobs <- job{i, d}
		}
		close(jobs)
		wg.Wait()
		close(results)
	}()
	var x uint64
	cnt := 0
	for res := range results {
		x += res.h * uint64(res.id+1)
		cnt++
	}
	top := 0
	for _, c := range hist {
		top = max(top, c)
	}
	return fmt.Sprintf("%d %016x %d/%d", cnt, x, len(hist), top)
}

type shape interface {
	area() float64
	scale(f float64) shape
}
type circle struct{ r float64 }
type rect struct{ w, h float64 }
type square struct{ rect }
type tri struct{ a, b, c float64 }

func (c circle) area() float64 { return math.Pi * c.r * c.r }
func (r *rect) area() float64  { return r.w * r.h }
func (t tri) area() float64 {
	s := (t.a + t.b + t.c) / 2
	return math.Sqrt(s * (s - t.a) * (s - t.b) * (s - t.c))
}
func (c circle) scale(f float64) shape { return circle{c.r * f} }
func (r *rect) scale(f float64) shape  { r.w *= f; r.h *= f; return r }
func (t tri) scale(f float64) shape    { return tri{t.a * f, t.b * f, t.c * f} }

// dispatch: methods by interfaces, embedding and type switches, on 1000 shapes, n times.
func dispatch(n int) string {
	r := newRng(61)
	shapes := make([]shape, 1000)
	for i := range shapes {
		switch r.intn(4) {
		case 0:
			shapes[i] = circle{1 + r.float()}
		case 1:
			shapes[i] = &rect{1 + r.float(), 1 + r.float()}
		case 2:
			a := 1 + r.float()
			shapes[i] = &square{rect{a, a}}
		default:
			shapes[i] = tri{3 + r.float(), 4, 5}
		}
	}
	var sum float64
	kinds := [4]int{}
	for k := 0; k < n; k++ {
		f := 1.001
		if k%2 == 1 {
			f = 1 / 1.001
		}
		for i, s := range shapes {
			sum += s.area()
			if i%7 == 0 {
				shapes[i] = s.scale(f)
			}
			switch v := s.(type) {
			case circle:
				kinds[0]++
			case *rect:
				kinds[1]++
			case *square:
				kinds[2]++
			case fmt.Stringer:
				sum += float64(len(v.String()))
			default:
				kinds[3]++
			}
		}
	}
	return fmt.Sprintf("%.6f %v", sum, kinds)
}

func mapOf[T, U any](xs []T, f func(T) U) []U {
	out := make([]U, 0, len(xs))
	for _, x := range xs {
		out = append(out, f(x))
	}
	return out
}

func filter[T any](xs []T, f func(T) bool) []T {
	var out []T
	for _, x := range xs {
		if f(x) {
			out = append(out, x)
		}
	}
	return out
}

func fold[T, A any](xs []T, a A, f func(A, T) A) A {
	for _, x := range xs {
		a = f(a, x)
	}
	return a
}

// closures: functions made, composed and passed to generic ones, n times.
func closures(n int) string {
	compose := func(fs ...func(int) int) func(int) int {
		return func(x int) int {
			for _, f := range fs {
				x = f(x)
			}
			return x
		}
	}
	counter := func() func() int {
		c := 0
		return func() int { c++; return c }
	}
	next := counter()
	xs := make([]int, 1000)
	total := 0.0
	for k := 0; k < n; k++ {
		for i := range xs {
			xs[i] = next()
		}
		var fs []func(int) int
		for m := 1; m <= 5; m++ {
			fs = append(fs, func(x int) int { return (x*(m+k) + m) % 1000003 })
		}
		g := compose(fs...)
		ys := filter(mapOf(xs, g), func(x int) bool { return x%3 != k%3 })
		zs := mapOf(ys, func(x int) float64 { return float64(x) / 7 })
		total += fold(zs, 0.0, func(a, z float64) float64 { return a*0.999 + z })
	}
	return fmt.Sprintf("%d %.6f", next(), total)
}

const (
	opPush = iota
	opLoad
	opStore
	opAdd
	opMul
	opDiv
	opMod
	opLt
	opJz
	opJmp
	opCall
	opRet
	opHalt
)

type ins struct{ op, arg int }

// interp: a stack machine as a switch in a loop, whose program counts the Collatz steps of all numbers below n.
func interp(n int) string {
	// locals: 0 = i, 1 = n, 2 = steps, 3 = x, 4 = longest, 5 = where, 6 = steps of i
	prog := []ins{
		{opPush, 1}, {opStore, 0}, // 0: i = 1
		{opLoad, 0}, {opLoad, 1}, {opLt, 0}, {opJz, 26}, // 2: while i < n
		{opLoad, 0}, {opStore, 3}, {opCall, 27}, // 6
		{opLoad, 4}, {opLoad, 6}, {opLt, 0}, {opJz, 17}, // 9: if longest < steps of i
		{opLoad, 6}, {opStore, 4}, {opLoad, 0}, {opStore, 5}, // 13
		{opLoad, 2}, {opLoad, 6}, {opAdd, 0}, {opStore, 2}, // 17: steps += steps of i
		{opLoad, 0}, {opPush, 1}, {opAdd, 0}, {opStore, 0}, {opJmp, 2}, // 21: i++
		{opHalt, 0},               // 26
		{opPush, 0}, {opStore, 6}, // 27: the steps of i
		{opPush, 1}, {opLoad, 3}, {opLt, 0}, {opJz, 53}, // 29: while 1 < x
		{opLoad, 3}, {opPush, 2}, {opMod, 0}, {opJz, 44}, // 33: if x is odd
		{opLoad, 3}, {opPush, 3}, {opMul, 0}, {opPush, 1}, {opAdd, 0}, {opStore, 3}, {opJmp, 48}, // 37: x = 3x + 1
		{opLoad, 3}, {opPush, 2}, {opDiv, 0}, {opStore, 3}, // 44: else x /= 2
		{opLoad, 6}, {opPush, 1}, {opAdd, 0}, {opStore, 6}, {opJmp, 29}, // 48
		{opRet, 0}, // 53
	}

	var stack [64]int
	var calls []int
	locals := make([]int, 8)
	locals[1] = n
	sp, pc, count := 0, 0, 0
	for {
		in := prog[pc]
		pc++
		count++
		switch in.op {
		case opPush:
			stack[sp] = in.arg
			sp++
		case opLoad:
			stack[sp] = locals[in.arg]
			sp++
		case opStore:
			sp--
			locals[in.arg] = stack[sp]
		case opAdd:
			sp--
			stack[sp-1] += stack[sp]
		case opMul:
			sp--
			stack[sp-1] *= stack[sp]
		case opDiv:
			sp--
			stack[sp-1] /= stack[sp]
		case opMod:
			sp--
			stack[sp-1] %= stack[sp]
		case opLt:
			sp--
			if stack[sp-1] < stack[sp] {
				stack[sp-1] = 1
			} else {
				stack[sp-1] = 0
			}
		case opJz:
			sp--
			if stack[sp] == 0 {
				pc = in.arg
			}
		case opJmp:
			pc = in.arg
		case opCall:
			calls = append(calls, pc)
			pc = in.arg
		case opRet:
			pc = calls[len(calls)-1]
			calls = calls[:len(calls)-1]
		case opHalt:
			return fmt.Sprintf("%d steps, longest %d at %d, %d instructions", locals[2], locals[4], locals[5], count)
		}
	}
}
