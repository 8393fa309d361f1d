package main

import (
	"bytes"
	"compress/flate"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"io"
	"sort"
)

type person struct {
	name  string
	age   int
	score float64
	id    uint32
}

// sortstruct: 40000 structs sorted in three ways, n times.
func sortstruct(n int) string {
	r := newRng(21)
	var names []string
	for _, a := range syllables {
		for _, b := range syllables {
			names = append(names, a+b)
		}
	}
	ps := make([]person, 40000)
	h := uint64(fnvInit)
	sum := func() {
		for i := range ps {
			h = (h ^ uint64(ps[i].id)) * 1099511628211
		}
	}
	for k := 0; k < n; k++ {
		for i := range ps {
			ps[i] = person{names[r.intn(len(names))], r.intn(90), r.float(), uint32(r.next())}
		}
		sort.Slice(ps, func(i, j int) bool {
			a, b := &ps[i], &ps[j]
			if a.name != b.name {
				return a.name < b.name
			}
			if a.age != b.age {
				return a.age > b.age
			}
			return a.id < b.id
		})
		sum()
		sort.SliceStable(ps, func(i, j int) bool { return ps[i].age < ps[j].age })
		sum()
		sort.Slice(ps, func(i, j int) bool { return ps[i].score < ps[j].score })
		sum()
	}
	return fmt.Sprintf("%s %016x", ps[0].name, h)
}

// cryptoTask: AES in counter mode and with GCM, SHA-256 and HMAC over 16 KB, n times.
func cryptoTask(n int) string {
	buf := make([]byte, 16384)
	r := newRng(31)
	for i := range buf {
		buf[i] = byte(r.next())
	}
	key := sha256.Sum256([]byte("key"))
	blk, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err)
	}
	gcm, err := cipher.NewGCM(blk)
	if err != nil {
		panic(err)
	}
	stream := cipher.NewCTR(blk, key[:16])
	mac := hmac.New(sha256.New, key[:])
	for k := 0; k < n; k++ {
		stream.XORKeyStream(buf, buf)
		s := sha256.Sum256(buf)
		mac.Write(s[:])
		nonce := s[:12]
		sealed := gcm.Seal(nil, nonce, buf, nil)
		plain, err := gcm.Open(nil, nonce, sealed, nil)
		if err != nil || !bytes.Equal(plain, buf) {
			panic("gcm")
		}
		copy(buf, sealed[len(sealed)-16:])
	}
	return fmt.Sprintf("%x", mac.Sum(nil)[:12])
}

// flateTask: a text of n words compressed at three levels, and back.
func flateTask(n int) string {
	text := []byte(prose(n, 41))
	out := ""
	for _, level := range []int{1, 6, 9} {
		var z bytes.Buffer
		w, err := flate.NewWriter(&z, level)
		if err != nil {
			panic(err)
		}
		w.Write(text)
		w.Close()
		packed := append([]byte(nil), z.Bytes()...)
		back, err := io.ReadAll(flate.NewReader(&z))
		if err != nil || !bytes.Equal(back, text) {
			panic("flate")
		}
		out += fmt.Sprintf("%d/%d:%016x ", len(packed), len(text), fnv(fnvInit, string(packed)))
	}
	return out[:len(out)-1]
}

type tree struct{ l, r *tree }

func build(d int) *tree {
	if d == 0 {
		return &tree{}
	}
	return &tree{build(d - 1), build(d - 1)}
}

func (t *tree) count() int {
	if t.l == nil {
		return 1
	}
	return 1 + t.l.count() + t.r.count()
}

// bintrees: binary trees up to depth n, made and dropped: work for the garbage collector.
func bintrees(n int) string {
	long := build(n)
	out := ""
	for d := 4; d <= n; d += 4 {
		iter := 1 << (n - d + 4)
		c := 0
		for i := 0; i < iter; i++ {
			c += build(d).count()
		}
		out += fmt.Sprintf("%dx%d=%d ", iter, d, c)
	}
	return out + fmt.Sprint(long.count())
}
