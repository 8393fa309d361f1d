package main

import (
	"fmt"
	"math"
	"math/big"
)

type body struct{ x, y, z, vx, vy, vz, mass float64 }

func energy(bs []body) float64 {
	var e float64
	for i := range bs {
		b := &bs[i]
		e += 0.5 * b.mass * (b.vx*b.vx + b.vy*b.vy + b.vz*b.vz)
		for j := i + 1; j < len(bs); j++ {
			c := &bs[j]
			dx, dy, dz := b.x-c.x, b.y-c.y, b.z-c.z
			e -= b.mass * c.mass / math.Sqrt(dx*dx+dy*dy+dz*dz)
		}
	}
	return e
}

// nbody: the sun and four planets, n steps, and their energy before and after.
func nbody(n int) string {
	const sm = 4 * math.Pi * math.Pi
	const days = 365.24
	bs := []body{
		{mass: sm},
		{
			4.84143144246472090e+00, -1.16032004402742839e+00, -1.03622044471123109e-01,
			1.66007664274403694e-03 * days, 7.69901118419740425e-03 * days, -6.90460016972063023e-05 * days,
			9.54791938424326609e-04 * sm,
		},
		{
			8.34336671824457987e+00, 4.12479856412430479e+00, -4.03523417114321381e-01,
			-2.76742510726411899e-03 * days, 4.99852801234917238e-03 * days, 2.30417297573763929e-05 * days,
			2.85885980666130812e-04 * sm,
		},
		{
			1.28943695621391310e+01, -1.51111514016986312e+01, -2.23307578892655734e-01,
			2.96460137564761618e-03 * days, 2.37847173959480950e-03 * days, -2.96589568540237556e-05 * days,
			4.36624404335156298e-05 * sm,
		},
		{
			1.53796971148509165e+01, -2.59193146099879641e+01, 1.79258772950371181e-01,
			2.68067772490389322e-03 * days, 1.62824170038242295e-03 * days, -9.51592254519715870e-05 * days,
			5.15138902046611451e-05 * sm,
		},
	}
	var px, py, pz float64
	for _, b := range bs {
		px += b.vx * b.mass
		py += b.vy * b.mass
		pz += b.vz * b.mass
	}
	bs[0].vx, bs[0].vy, bs[0].vz = -px/sm, -py/sm, -pz/sm
	e0 := energy(bs)
	const dt = 0.01
	for s := 0; s < n; s++ {
		for i := range bs {
			b := &bs[i]
			for j := i + 1; j < len(bs); j++ {
				c := &bs[j]
				dx, dy, dz := b.x-c.x, b.y-c.y, b.z-c.z
				d2 := dx*dx + dy*dy + dz*dz
				mag := dt / (d2 * math.Sqrt(d2))
				b.vx -= dx * c.mass * mag
				b.vy -= dy * c.mass * mag
				b.vz -= dz * c.mass * mag
				c.vx += dx * b.mass * mag
				c.vy += dy * b.mass * mag
				c.vz += dz * b.mass * mag
			}
		}
		for i := range bs {
			b := &bs[i]
			b.x += dt * b.vx
			b.y += dt * b.vy
			b.z += dt * b.vz
		}
	}
	return fmt.Sprintf("%.9f %.9f", e0, energy(bs))
}

func newMat(n int) [][]float64 {
	m := make([][]float64, n)
	for i := range m {
		m[i] = make([]float64, n)
	}
	return m
}

// matmul: the product of two matrices of n rows, each row a slice of its own.
func matmul(n int) string {
	r := newRng(1)
	a, b, c := newMat(n), newMat(n), newMat(n)
	for i := 0; i < n; i++ {
		for j := 0; j < n; j++ {
			a[i][j], b[i][j] = r.float()-0.5, r.float()-0.5
		}
	}
	for i := 0; i < n; i++ {
		for j := 0; j < n; j++ {
			var s float64
			for k := 0; k < n; k++ {
				s += a[i][k] * b[k][j]
			}
			c[i][j] = s
		}
	}
	var tr, all float64
	for i := range c {
		tr += c[i][i]
		for _, v := range c[i] {
			all += v * v
		}
	}
	return fmt.Sprintf("%.9f %.9f", tr, all)
}

// pidigits: n digits of pi by Gibbons' unbounded spigot over math/big, and the factorial of 4n in decimal.
func pidigits(n int) string {
	var (
		t1, t2            = big.NewInt(0), big.NewInt(0)
		numer, accum, den = big.NewInt(1), big.NewInt(0), big.NewInt(1)
		ten               = big.NewInt(10)
	)
	extract := func(k int64) int64 {
		t1.Mul(numer, t2.SetInt64(k))
		t1.Add(t1, accum)
		t2.Div(t1, den)
		return t2.Int64()
	}
	h := uint64(fnvInit)
	var last []byte
	for i, k := 0, int64(0); i < n; {
		d := int64(-1)
		for d < 0 {
			k++
			y2 := k*2 + 1
			t1.Lsh(numer, 1)
			accum.Add(accum, t1)
			accum.Mul(accum, t2.SetInt64(y2))
			numer.Mul(numer, t2.SetInt64(k))
			den.Mul(den, t2.SetInt64(y2))
			if accum.Cmp(numer) >= 0 {
				if a := extract(3); a == extract(4) {
					d = a
				}
			}
		}
		c := byte('0' + d)
		h = fnv(h, string([]byte{c}))
		last = append(last, c)
		if len(last) > 10 {
			last = last[1:]
		}
		accum.Sub(accum, t1.Mul(den, t2.SetInt64(d)))
		accum.Mul(accum, ten)
		numer.Mul(numer, ten)
		i++
	}
	f := new(big.Int).MulRange(1, int64(n)*4)
	return fmt.Sprintf("%016x ...%s %016x", h, last, fnv(fnvInit, f.String()))
}

func fib(n int) int {
	if n < 2 {
		return n
	}
	return fib(n-1) + fib(n-2)
}

func ack(m, n int) int {
	if m == 0 {
		return n + 1
	}
	if n == 0 {
		return ack(m-1, 1)
	}
	return ack(m-1, ack(m, n-1))
}

// fibTask: Fibonacci's and Ackermann's functions, by recursion alone.
func fibTask(n int) string { return fmt.Sprintf("%d %d", fib(n), ack(2, n*8)) }

// editdist: edit distance and longest common subsequence of n pairs of strings, each over a whole table.
func editdist(n int) string {
	r := newRng(7)
	var l, c, x int
	for i := 0; i < n; i++ {
		d, s := editPair(1000, r)
		l += d
		c += s
		x ^= d*(i+1) + s
	}
	return fmt.Sprintf("%d %d %d", l, c, x)
}

func editPair(n int, r *rng) (int, int) {
	const alpha = "acgt"
	a, b := make([]byte, n), make([]byte, n)
	for i := range a {
		a[i] = alpha[r.intn(4)]
		b[i] = a[i]
		if r.intn(3) == 0 {
			b[i] = alpha[r.intn(4)]
		}
	}
	lev := make([][]int, n+1)
	lcs := make([][]int, n+1)
	for i := range lev {
		lev[i] = make([]int, n+1)
		lcs[i] = make([]int, n+1)
		lev[i][0] = i
	}
	for j := range lev[0] {
		lev[0][j] = j
	}
	for i := 1; i <= n; i++ {
		for j := 1; j <= n; j++ {
			if a[i-1] == b[j-1] {
				lev[i][j] = lev[i-1][j-1]
				lcs[i][j] = lcs[i-1][j-1] + 1
			} else {
				lev[i][j] = 1 + min(lev[i-1][j], lev[i][j-1], lev[i-1][j-1])
				lcs[i][j] = max(lcs[i-1][j], lcs[i][j-1])
			}
		}
	}
	return lev[n][n], lcs[n][n]
}
