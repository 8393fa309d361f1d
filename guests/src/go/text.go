package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"text/template"
)

var syllables = []string{
	"ka", "to", "mi", "ra", "ne", "so", "lu", "vi", "pen", "dor", "gal", "ist", "um", "ath", "el", "bro",
}

// prose makes text of n words, of which short ones are more frequent.
func prose(n int, seed uint64) string {
	r := newRng(seed)
	var sb strings.Builder
	for i := 0; i < n; i++ {
		k := 1 + r.intn(1+r.intn(4))
		for j := 0; j < k; j++ {
			sb.WriteString(syllables[r.intn(len(syllables))])
		}
		switch r.intn(12) {
		case 0:
			sb.WriteString(". ")
		case 1:
			sb.WriteString(",\n")
		default:
			sb.WriteByte(' ')
		}
	}
	return sb.String()
}

// wordcount: the words of a text of n words counted in a map, then sorted.
func wordcount(n int) string {
	text := prose(n, 3)
	count := map[string]int{}
	gap := func(c rune) bool { return c == ' ' || c == '.' || c == ',' || c == '\n' }
	for _, w := range strings.FieldsFunc(text, gap) {
		count[strings.ToUpper(w[:1])+w[1:]]++
	}
	type wc struct {
		w string
		n int
	}
	var all []wc
	for w, c := range count {
		all = append(all, wc{w, c})
	}
	sort.Slice(all, func(i, j int) bool {
		if all[i].n != all[j].n {
			return all[i].n > all[j].n
		}
		return all[i].w < all[j].w
	})
	h := uint64(fnvInit)
	for _, e := range all {
		h = fnv(h, e.w+strconv.Itoa(e.n))
	}
	return fmt.Sprintf("%d words, first %s=%d, %016x", len(all), all[0].w, all[0].n, h)
}

// formatLine writes a line in many formats.
func formatLine(sb *strings.Builder, i int, r *rng) {
	name, bits, x := syllables[r.intn(16)], r.next()&0xffffffff, r.float()*1e6-5e5
	fmt.Fprintf(sb, "%-8s|%6d|%08x|%+.3e|%q|%v|", name, i, bits, x, "a\tb", i%3 == 0)
	sb.WriteString(strconv.Itoa(r.intn(1 << 30)))
	sb.WriteByte(',')
	sb.WriteString(strconv.FormatFloat(r.float(), 'g', -1, 64))
	sb.WriteByte(',')
	sb.WriteString(strconv.Quote("x→" + syllables[i&15]))
	fmt.Fprintf(sb, "|%v|%+v\n", []int{i, i * 2}, struct{ X, Y int }{i, -i})
}

// formatTask: n lines by fmt and strconv, of which some is read again.
func formatTask(n int) string {
	r := newRng(11)
	h, size, sum := uint64(fnvInit), 0, 0.0
	for i := 0; i < n; i++ {
		var sb strings.Builder
		formatLine(&sb, i, r)
		s := sb.String()
		h = fnv(h, s)
		size += len(s)
		p := strings.Split(s, "|")
		d, err := strconv.Atoi(strings.TrimSpace(p[1]))
		if err != nil {
			panic(err)
		}
		f, err := strconv.ParseFloat(p[3], 64)
		if err != nil {
			panic(err)
		}
		var x, y int
		if _, err := fmt.Sscanf(p[7], "[%d %d]", &x, &y); err != nil {
			panic(err)
		}
		sum += f + float64(d+x-y)
	}
	return fmt.Sprintf("%d bytes, sum %.3f, %016x", size, sum, h)
}

// jsonTask: 200 items to JSON and back, n times, as structs and as maps.
func jsonTask(n int) string {
	type item struct {
		ID    int                `json:"id"`
		Name  string             `json:"name"`
		Price float64            `json:"price"`
		Tags  []string           `json:"tags,omitempty"`
		Attr  map[string]float64 `json:"attr"`
		Sub   *struct {
			OK   bool   `json:"ok"`
			Note string `json:"note"`
		} `json:"sub"`
	}
	r := newRng(5)
	items := make([]item, 200)
	for i := range items {
		it := &items[i]
		it.ID = i
		it.Name = syllables[r.intn(16)] + syllables[r.intn(16)] + "<&>\"é"
		it.Price = float64(r.intn(100000)) / 100
		for j := r.intn(4); j > 0; j-- {
			it.Tags = append(it.Tags, syllables[r.intn(16)])
		}
		it.Attr = map[string]float64{"w": r.float(), "h": r.float() * 1e9, "d": float64(r.intn(10))}
		if i%3 == 0 {
			it.Sub = &struct {
				OK   bool   `json:"ok"`
				Note string `json:"note"`
			}{i%2 == 0, "line\nbreak"}
		}
	}
	h, size := uint64(fnvInit), 0
	for k := 0; k < n; k++ {
		b, err := json.Marshal(items)
		if err != nil {
			panic(err)
		}
		h = fnv(h, string(b))
		size += len(b)
		var back []item
		if err := json.Unmarshal(b, &back); err != nil {
			panic(err)
		}
		var loose any
		if err := json.Unmarshal(b, &loose); err != nil {
			panic(err)
		}
		b2, err := json.MarshalIndent(loose, "", " ")
		if err != nil {
			panic(err)
		}
		h = fnv(h, string(b2))
		items = back
		items[k%len(items)].ID += k
		items[k%len(items)].Price *= 1.01
	}
	return fmt.Sprintf("%d bytes, %016x", size, h)
}

// regexpTask: five patterns and a replacement over a log whose lines hold n words.
func regexpTask(n int) string {
	text := prose(n, 9)
	var sb strings.Builder
	r := newRng(10)
	for i, line := range strings.Split(text, "\n") {
		fmt.Fprintf(&sb, "2024-%02d-%02d 10:%02d:%02d ", 1+r.intn(12), 1+r.intn(28), r.intn(60), r.intn(60))
		fmt.Fprintf(&sb, "host%d <%s@%s.org> %s\n", i%17, syllables[r.intn(16)], syllables[r.intn(16)], line)
	}
	text = sb.String()
	res := []string{
		`(\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d)`,
		`[a-z]+@(?:[a-z]+\.)+org`,
		`\b(ka|to|mi)+\b`,
		`(?i)(gal|dor)[^.,]*?(ISTUM|athel)`,
		`host(1[0-5]|[2-9])\s`,
	}
	out := ""
	for _, s := range res {
		m := regexp.MustCompile(s).FindAllStringIndex(text, -1)
		sum := 0
		for _, p := range m {
			sum += p[0] ^ p[1]
		}
		out += fmt.Sprintf("%d/%d ", len(m), sum)
	}
	repl := regexp.MustCompile(`(\w+)@(\w+)`).ReplaceAllString(text, "$2 at ${1}")
	return out + fmt.Sprintf("%016x", fnv(fnvInit, repl))
}

const page = `{{define "row" -}}
<tr class="{{if .Odd}}odd{{else}}even{{end}}"><td>{{.ID | printf "%05d"}}</td><td>{{.Name | html}}</td>
{{- range $i, $t := .Tags}}<td>{{$i}}:{{$t | title}}</td>{{else}}<td/>{{end}}</tr>
{{end -}}
<h1>{{.Title}}</h1><table>{{range .Rows}}{{template "row" .}}{{end}}</table>
{{- with .Foot}}<p>{{.}} {{len $.Rows}}</p>{{end}}
`

type row struct {
	ID   int
	Name string
	Tags []string
}

func (r row) Odd() bool { return r.ID%2 == 1 }

// templateTask: n pages of 50 rows by text/template.
func templateTask(n int) string {
	t := template.Must(template.New("page").Funcs(template.FuncMap{
		"title": func(s string) string { return strings.ToUpper(s[:1]) + s[1:] },
	}).Parse(page))
	r := newRng(13)
	h, size := uint64(fnvInit), 0
	for k := 0; k < n; k++ {
		rows := make([]row, 50)
		for i := range rows {
			name := syllables[r.intn(16)] + " & <" + syllables[r.intn(16)] + ">"
			rows[i] = row{k*50 + i, name, syllables[:r.intn(5)]}
		}
		var buf bytes.Buffer
		data := map[string]any{"Title": "Page " + strconv.Itoa(k), "Rows": rows, "Foot": "rows:"}
		if err := t.Execute(&buf, data); err != nil {
			panic(err)
		}
		h = fnv(h, buf.String())
		size += buf.Len()
	}
	return fmt.Sprintf("%d bytes, %016x", size, h)
}

//go:embed numeric.go
var source string

// goparse: a file of this program parsed, walked, changed and printed, n times.
func goparse(n int) string {
	h := uint64(fnvInit)
	idents, calls, nodes := 0, 0, 0
	for k := 0; k < n; k++ {
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, "numeric.go", source, parser.ParseComments)
		if err != nil {
			panic(err)
		}
		ast.Inspect(f, func(x ast.Node) bool {
			nodes++
			switch x := x.(type) {
			case *ast.Ident:
				idents++
				if x.Name == "t1" {
					x.Name = "tmp" + strconv.Itoa(k)
				}
			case *ast.CallExpr:
				calls++
			}
			return true
		})
		var buf bytes.Buffer
		if err := format.Node(&buf, fset, f); err != nil {
			panic(err)
		}
		h = fnv(h, buf.String())
	}
	return fmt.Sprintf("%d nodes, %d idents, %d calls, %016x", nodes, idents, calls, h)
}
